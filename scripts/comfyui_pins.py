"""ComfyUI's list of packages beside ours. Pure functions; standard library only.

ComfyUI pins a few packages exactly, and newer ones are asked for by each of its versions. The environment has the newer
of both: an older ComfyUI runs with a newer front end, a newer one does not start with an older.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)
_LINE = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*([^;]*)")


def listed(text: str) -> list[str]:
    """The requirements in a requirements.txt, without comments, empty lines and pip's options."""
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("-")]


def name_of(requirement: str) -> str:
    """As an index compares names: small letters, with one hyphen for hyphens, dots and underscores."""
    match = _LINE.match(requirement)
    assert match is not None, requirement
    return re.sub(r"[-_.]+", "-", match[1]).lower()


def locked_versions(lock: str) -> dict[str, list[str]]:
    """The versions a lock file names; several where they depend on the Python."""
    versions: dict[str, list[str]] = {}
    for name, version in _LOCKED.findall(lock):
        versions.setdefault(name_of(name), []).append(version)
    return versions


def exact_version(requirement: str) -> str | None:
    """The version of ``name==version``."""
    match = _LINE.match(requirement)
    exact = re.fullmatch(r"==\s*([^\s,*]+)\s*", match[2]) if match else None
    return exact[1] if exact else None


def order(version: str) -> tuple[int, ...]:
    """By which plain versions are compared."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def of_comfyui(comfyui: str, lock: str) -> list[str]:
    """ComfyUI's requirements as they are installed: an exact pin that the lock has reached gives way to it."""
    locked = locked_versions(lock)
    wanted = []
    for requirement in listed(comfyui):
        pinned = exact_version(requirement)
        ours = locked.get(name_of(requirement), [])
        reached = pinned is not None and any(order(pinned) <= order(version) for version in ours)
        wanted.append(name_of(requirement) if reached else requirement)
    return wanted


def beyond(comfyui: str, lock: str) -> list[str]:
    """What ComfyUI asks for that the lock file does not have: newer pins, and other packages."""
    locked = locked_versions(lock)
    asked = []
    for requirement in listed(comfyui):
        pinned, ours = exact_version(requirement), locked.get(name_of(requirement))
        if ours is None or (pinned is not None and all(order(pinned) > order(version) for version in ours)):
            asked.append(requirement)
    return asked


def raised(ours: str, comfyui: str) -> str:
    """Our list for development (scripts/requirements.in), with ComfyUI's newer pins and what else it asks for."""
    pins = {name_of(line): line for line in listed(comfyui)}
    have = set()
    lines = []
    for line in ours.splitlines():
        [requirement] = listed(line) or [""]
        if requirement:
            name = name_of(requirement)
            have.add(name)
            theirs, mine = exact_version(pins.get(name, "x")), exact_version(requirement)
            if theirs and mine and order(theirs) > order(mine):
                line = pins[name]
        lines.append(line)
    return "\n".join([*lines, *missing(pins, have)]) + "\n"


def missing(pins: dict[str, str], have: Iterable[str]) -> list[str]:
    new = [line for name, line in pins.items() if name not in set(have)]
    return ["", "# What a newer ComfyUI asks for.", *new] if new else []
