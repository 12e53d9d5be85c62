"""The manifest of a run, ``manifest.json``: what the run is. Only this module knows what is in the file.

The file holds the number of the format, the digests of what decides the run's result, by name; what a person wants to
know of the run (:class:`About`); and the checksum of the sound file.

The format is a promise: a run that is on the disk in this format is found again and goes on, whatever LongTalk comes
after this one. ``tests/assets/stored_run`` is one that a test goes on with. A version that cannot keep that promise
raises :data:`FORMAT`; it names the runs of another format as such, and leaves them alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ....base.files import DamagedFileError, read_json, write_json
from ..seeds import SEED_LIMIT
from ..video.formats import CODECS, VideoFormat
from .record import FRAMES_LIMIT, FileSum

FORMAT = 3
"""The format of a run's files. 2: a window's record says what the window was made again with (``retake``). 3: each take
has a video of its own (``talk_<take>_<content>``)."""

_SIZE_LIMIT = 1 << 16
_FPS_LIMIT = 1001
_CRF_LIMIT = 52
_STEPS_LIMIT = 1 << 31
_FORMAT_LIMIT = 1 << 20


class OtherFormatError(Exception):
    """A manifest that is whole, but that another version of LongTalk wrote; the message says which format it has.

    Args:
        found: the number of its format.
    """

    def __init__(self, found: int) -> None:
        self.older = found < FORMAT
        age = "an older" if self.older else "a newer"
        super().__init__(f"its format is {found}, that of {age} LongTalk; this one has {FORMAT}")


@dataclass(frozen=True)
class About:
    """What the manifest tells a person about the run.

    Attributes:
        created: date and time, as they were written.
        width, height, fps, frames: of the video.
        codec, crf: of the video's format.
        seed, steps: as the sampler had them.
        ends: for each window, the frame behind its last one.
        shots: the windows that begin a shot, counted from 1.
    """

    created: str
    width: int
    height: int
    codec: str
    crf: int
    fps: int
    frames: int
    seed: int
    steps: int
    ends: tuple[int, ...]
    shots: tuple[int, ...] = (1,)

    def to_json(self) -> dict[str, Any]:
        """What :meth:`from_json` reads; a video of one shot does not name its shots."""
        content = {**asdict(self), "ends": list(self.ends), "shots": list(self.shots)}
        if len(self.shots) == 1:
            del content["shots"]
        return content

    @classmethod
    def from_json(cls, content: Any) -> About:
        """Raise DamagedFileError unless it is what :meth:`to_json` gives; further entries are passed over."""
        if not isinstance(content, dict):
            raise DamagedFileError("the manifest does not describe the run")
        numbers = {
            "width": _whole(content, "width", 1, _SIZE_LIMIT),
            "height": _whole(content, "height", 1, _SIZE_LIMIT),
            "crf": _whole(content, "crf", 1, _CRF_LIMIT),
            "fps": _whole(content, "fps", 1, _FPS_LIMIT),
            "frames": _whole(content, "frames", 1, FRAMES_LIMIT),
            "seed": _whole(content, "seed", 0, SEED_LIMIT),
            "steps": _whole(content, "steps", 1, _STEPS_LIMIT),
        }
        created, codec, ends = content.get("created"), content.get("codec"), content.get("ends")
        if not isinstance(created, str) or not isinstance(codec, str) or codec not in CODECS:
            raise DamagedFileError("the manifest has no codec that LongTalk knows, or no date")
        if not isinstance(ends, list) or not ends or any(type(end) is not int for end in ends):
            raise DamagedFileError("the manifest does not say where the windows end")
        if ends[-1] != numbers["frames"] or any(a >= b for a, b in zip([0, *ends], ends, strict=False)):
            raise DamagedFileError("the manifest's windows do not fill the video")
        shots = content.get("shots", [1])
        if not isinstance(shots, list) or shots[:1] != [1] or any(type(window) is not int for window in shots):
            raise DamagedFileError("the manifest does not say where the shots begin")
        if shots[-1] > len(ends) or any(a >= b for a, b in pairwise(shots)):
            raise DamagedFileError("the manifest's shots are not among its windows")
        return cls(created=created[:40], codec=codec, ends=tuple(ends), shots=tuple(shots), **numbers)

    @property
    def video(self) -> VideoFormat:
        return VideoFormat(self.codec, self.crf)

    def frames_of(self, window: int) -> tuple[int, int]:
        """The frames ``[start, end)`` of a window, which is counted from 1."""
        return self.ends[window - 2] if window > 1 else 0, self.ends[window - 1]

    def shot_of(self, window: int) -> range:
        """The windows of the shot that a window is in."""
        edges = [*self.shots, len(self.ends) + 1]
        return next((range(*edge) for edge in pairwise(edges) if window in range(*edge)), range(window, window + 1))


@dataclass(frozen=True)
class Manifest:
    """What a run is.

    Attributes:
        parts: digests of what decides the result, by name.
        about: what a person wants to know.
        sound: the checksum of the sound file.
    """

    parts: Mapping[str, str]
    about: About
    sound: FileSum

    def to_json(self) -> dict[str, Any]:
        """What :meth:`from_json` reads."""
        about, sound = self.about.to_json(), asdict(self.sound)
        return {"format": FORMAT, "parts": dict(self.parts), "about": about, "sound": sound}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Manifest:
        """What :meth:`to_json` gave; further entries are passed over.

        Raises:
            DamagedFileError: no LongTalk wrote it.
            OtherFormatError: another version of LongTalk wrote it.
        """
        found = content.get("format")
        if type(found) is not int or not 0 < found < _FORMAT_LIMIT:
            raise DamagedFileError("the manifest has no number of a format")
        if found != FORMAT:
            raise OtherFormatError(found)
        parts = content.get("parts")
        if not isinstance(parts, dict) or any(not isinstance(digest, str) for digest in parts.values()):
            raise DamagedFileError("the manifest does not say what decides the result")
        return cls(parts, About.from_json(content.get("about")), FileSum.from_json(content.get("sound")))


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Describe a run; see :func:`~....base.files.atomic` for the errors."""
    write_json(path, manifest.to_json())


def read_manifest(path: Path) -> Manifest:
    """What :func:`write_manifest` wrote.

    Raises:
        FileNotFoundError
        DamagedFileError: the file is not as it was written.
        OtherFormatError: another version of LongTalk wrote it.
    """
    return Manifest.from_json(read_json(path))


def _whole(content: dict[str, Any], name: str, least: int, limit: int) -> int:
    number = content.get(name)
    if type(number) is not int or not least <= number < limit:
        raise DamagedFileError(f"the manifest's {name} is no number that can be")
    return number
