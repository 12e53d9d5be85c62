"""``start_over.json``: an attempt at a run that starts over, and has not come to its end.

Whoever asks for a run to start over goes on asking, as the choice stays in the graph. So an attempt that is stopped and
queued again would throw away its own windows, each time. It leaves this note when it has thrown away the older ones:
while the note is there, the windows are those of this attempt, which goes on with them. Its finished video is what ends
it; then the note goes, and who queues the graph once more starts over once more. Until then the older video stays.
"""

from __future__ import annotations

from ....base.files import DamagedFileError, read_json, remove, write_json
from .folder import RunFolder

_VIDEO = "video"


def is_started_over(folder: RunFolder, key: str) -> bool:
    """Whether the windows are those of an attempt that started over to make the video of this key.

    A note that is damaged is none: the windows are made once more, which costs time and nothing else.
    """
    try:
        return read_json(folder.start_over_path).get(_VIDEO) == key
    except (FileNotFoundError, DamagedFileError):
        return False


def start_over(folder: RunFolder, key: str) -> None:
    """Throw all windows away and note that from now on they are those of a new attempt at the video of this key.

    Raises:
        LongTalkError: the disk refuses.
    """
    # In this order: while there is no note, an attempt that is killed here has made nothing yet, and starts over again.
    remove(folder.start_over_path)
    folder.discard_windows()
    write_json(folder.start_over_path, {_VIDEO: key})


def end_attempt(folder: RunFolder, key: str) -> None:
    """The video of this key is whole.

    Raises:
        LongTalkError: the disk refuses.
    """
    if is_started_over(folder, key):
        remove(folder.start_over_path)
