"""Whether the files that nodes handed out are still there and as they were.

ComfyUI keeps what a node returned and gives it to the next prompt with the same inputs, without a look at the file
behind it. What it does ask before it takes something kept is the node's fingerprint, with those inputs that are no
links. So there is one fingerprint for each node class and such inputs, and it changes when a file that was handed out
under them is gone or another one: all that ComfyUI kept under the old one is never found again, and the node is
executed.

Why a node's id does not matter: ComfyUI gives what it kept to any node of the same class with the same inputs.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comfy_execution.utils import get_executing_context


@dataclass(frozen=True)
class _FileState:
    """What changes when a file is replaced or written to; reading the hour of a video would take too long."""

    bytes: int
    modified_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> _FileState | None:
        """None for a file that is not there, or that the system does not let us look at."""
        try:
            found = path.stat()
        except OSError:
            return None
        return cls(found.st_size, found.st_mtime_ns, found.st_ino)


@dataclass
class _Entry:
    """What was handed out under the same inputs.

    Attributes:
        files: as they were then.
        losses: how often some of them were found gone or changed.
    """

    files: dict[Path, _FileState | None] = field(default_factory=dict)
    losses: int = 0


class HandedOut:
    """The files that the nodes of this process handed out; see the module."""

    def __init__(self) -> None:
        # A cache that outlives the process cannot know what this one handed out, so what it kept never counts here.
        self._process = uuid.uuid4().hex
        self._entries: dict[str, _Entry] = {}
        self._prompt: str | None = None
        self._asked: dict[str, str] = {}

    def fingerprint(self, node_class: str, constants: Mapping[str, Any]) -> str:
        """What ComfyUI asks a node for, once for each prompt.

        Args:
            node_class: the name of the node's class.
            constants: the node's inputs as ComfyUI knows them before it executes anything: None in place of links.
        """
        key = _key(node_class, constants)
        entry = self._entries.setdefault(key, _Entry())
        if any(state is None or _FileState.of(path) != state for path, state in entry.files.items()):
            entry.files.clear()
            entry.losses += 1
        context = get_executing_context()
        if context is not None:
            if context.prompt_id != self._prompt:
                self._prompt = context.prompt_id
                self._asked.clear()
            self._asked[context.node_id] = key
        return f"{self._process} {entry.losses}"

    def note(self, path: Path) -> None:
        """The node that is being executed hands out this file.

        Without a prompt, or where ComfyUI asked for no fingerprint because it keeps nothing, there is nothing to note.
        """
        context = get_executing_context()
        if context is None or context.prompt_id != self._prompt or context.node_id not in self._asked:
            return
        self._entries[self._asked[context.node_id]].files[path] = _FileState.of(path)


def _key(node_class: str, constants: Mapping[str, Any]) -> str:
    text = json.dumps([node_class, dict(constants)], sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


HANDED_OUT = HandedOut()
"""That of this process: ComfyUI's caches are one for each process, too."""
