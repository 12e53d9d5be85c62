"""Which finished windows of a run belong together.

Windows made again with another seed lie beside the first ones, so what is on the disk is a tree for each shot: a branch
for each way from the shot's first window to one that no other continues. A window's key is a digest of the run's name
and of all seeds of its shot up to it, so the branches follow from the records' seeds; a record whose key does not is in
none of them, whatever its name. A chain is a branch of each shot, one behind the other.

Only the records are read here, not the large files they vouch for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ....base.files import DamagedFileError
from .folder import RunFolder
from .record import WindowRecord, digest_before_shot, keys_shown, window_digest
from .video_record import shown_key

Chain = tuple[WindowRecord, ...]


@dataclass(frozen=True)
class Windows:
    """The windows of a run.

    Attributes:
        chains: each from the first window on, without gaps; the current one first, then the others from new to old.
        damage: in words, which records cannot be read or have keys that do not follow.
        records: every window that is not damaged, in order, also those of a shot that no chain has come to.
    """

    chains: tuple[Chain, ...]
    damage: tuple[str, ...]
    records: Chain = ()

    @property
    def current(self) -> Chain:
        return self.chains[0] if self.chains else ()


def current_chain(folder: RunFolder) -> list[WindowRecord]:
    """The windows that the video shows; without a whole video, those that were worked on last.

    Their keys follow from their seeds. Nobody has looked whether their large files are still as they were.
    """
    return list(read_windows(folder).current)


def read_windows(folder: RunFolder) -> Windows:
    """Find all chains of a run. Never raises because of what is in a file.

    Raises:
        OSError: the folder cannot be listed.
    """
    records, damage = _read_records(folder)
    links = _links(folder.name, records)
    chained = {(link.record.window, link.record.key): link.record for link in links.values()}
    for record in records:
        if (record.window, record.key) not in chained:
            damage.append(f"window {record.window} ({record.key}): its key does not follow from the windows before it")
    return Windows(_chains(folder, links), tuple(damage), tuple(chained[place] for place in sorted(chained)))


def _read_records(folder: RunFolder) -> tuple[list[WindowRecord], list[str]]:
    records, damage = [], []
    for window, key, path in sorted(folder.window_files()):
        if path != folder.record_path(window, key) or window < 1:
            continue  # another way to write the number, which LongTalk never takes
        try:
            record = folder.read_record_unchecked(window, key)
            record.check_numbers()
        except (DamagedFileError, OSError) as error:
            damage.append(f"window {window} ({key}): {error}")
        else:
            records.append(record)
    return records, damage


@dataclass(frozen=True)
class _Link:
    record: WindowRecord
    before: str  # digest of the window before it, or what stands for it at the beginning of a shot


def _links(name: str, records: Sequence[WindowRecord]) -> dict[str, _Link]:
    """By their digests, the windows that begin a shot and all that continue from one of these."""
    by_window = defaultdict(list)
    for record in records:
        by_window[record.window].append(record)
    links: dict[str, _Link] = {}
    ends: list[str] = []
    for window in sorted(by_window):
        # The windows of a shot follow one another; where one is missing those after it belong to nothing.
        ends = [digest_before_shot(name, window), *(end for end in ends if links[end].record.window == window - 1)]
        grown = {}
        for before in ends:
            for record in by_window[window]:
                digest = window_digest(before, record.seed, record.retake)
                if digest.startswith(record.key):
                    grown[digest] = _Link(record, before)
        links |= grown
        ends = list(grown)
    return links


def _chains(folder: RunFolder, links: Mapping[str, _Link]) -> tuple[Chain, ...]:
    """All chains: the current one first, then those with another branch in one of the shots, new before old."""
    noted = shown_key(folder)
    shown = keys_shown(noted) if noted else ()
    continued = {link.before for link in links.values()}
    shots: dict[int, list[Chain]] = {}
    for end in links.keys() - continued:
        branch = _branch(links, end)
        shots.setdefault(branch[0].window, []).append(branch)
    current: Chain = ()
    others: list[Chain] = []
    for first in sorted(shots):
        if first != len(current) + 1:
            break  # the shot before it is not finished
        branches = sorted(
            shots[first], key=lambda branch: (branch[-1].key in shown, *_age(folder, branch)), reverse=True
        )
        others += [(*current, *branch) for branch in branches[1:]]
        current += branches[0]
    return (current, *others) if current else ()


def _branch(links: Mapping[str, _Link], end: str) -> Chain:
    records = []
    while end in links:
        records.append(links[end].record)
        end = links[end].before
    return tuple(reversed(records))


def _age(folder: RunFolder, chain: Chain) -> tuple[int, int, str]:
    """What sorts chains from old to new; of two chains of the same age the longer one counts as newer."""
    last = chain[-1]
    try:
        changed = folder.record_path(last.window, last.key).lstat().st_mtime_ns
    except OSError:
        changed = 0
    return changed, len(chain), last.key
