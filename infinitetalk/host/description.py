"""What a run's folder says of the run beside its windows: the sound, encoded once, and the manifest."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ..run.store.folder import RunFolder
from ..run.store.manifest import About, Manifest
from ..run.store.record import FileSum
from ..run.video.soundtrack import write_sound
from .noise import base_seed
from .run import Run


class Description:
    """The sound and the manifest of one run.

    Args:
        folder: the files of the run, which must be owned.
        run: checked.
        parts: digests of what decides the result, by name.
    """

    def __init__(self, folder: RunFolder, run: Run, parts: Mapping[str, str]) -> None:
        self._folder = folder
        self._run = run
        self._parts = parts

    def is_written(self) -> bool:
        """Whether both files are on the disk as they should be."""
        there = self._folder.manifest()
        return there is not None and there.parts == self._parts and self._folder.is_sound(there.sound)

    def write(self, check: Callable[[], None] = lambda: None) -> None:
        """Write the sound, then the manifest, in which its checksum is. The sound of an hour takes half a minute.

        Args:
            check: called every now and then; what it raises ends the writing.

        Raises:
            LongTalkError: the disk is full, or the folder may not be written to.
        """
        run, plan, path = self._run, self._run.plan, self._folder.sound_path
        write_sound(path, run.sound, run.video, frames=plan.frames, fps=plan.fps, check=check)
        about = About(
            created=time.strftime("%Y-%m-%d %H:%M:%S"),
            width=run.width,
            height=run.height,
            codec=run.video.codec,
            crf=run.video.crf,
            fps=plan.fps,
            frames=plan.frames,
            seed=base_seed(run.noise),
            steps=run.denoising_steps,
            ends=tuple(window.output[1] for window in plan.windows),
            shots=plan.shot_starts,
        )
        self._folder.write_manifest(Manifest(self._parts, about, FileSum.of(path)))
