"""The errors that a user can cause or mend, each of a kind with a code that stays the same.

The message is a sentence for the user; its kind's code stands behind it, to search for: docs/errors.md says more about
each. Code catches :class:`LongTalkError`, or a kind of it, and raises a kind::

    LongTalkError                   any of them; is caught, and never raised itself
    +- SettingError     LT-SETTING  a widget or argument has a value that cannot be: set another
    |  +- TextError     LT-TEXT     a line or a short text that LongTalk reads cannot be read: correct it
    +- LinkError        LT-LINK     nothing is connected, two are, or another node's output: connect what is named
    +- ModelError       LT-MODEL    a model, VAE, encoder or patch of another kind: load the one that is named
    +- PromptError      LT-PROMPT   a prompt that was encoded for another model, or holds what cannot be used: encode
    |                               it again with the encoder that is named
    +- SoundError       LT-SOUND    a sound that is empty, silent, too short, broken: connect another, or repair it
    +- PictureError     LT-PICTURE  a picture, mask or latent of another size, form or range: connect another
    +- FileError        LT-FILE     a file is missing, damaged or holds something else: check its name, get it again
    |  +- RunError      LT-RUN      a run on the disk is in use, damaged, or not there: what to do is in the message
    +- TooBigError      LT-MEMORY   memory is not enough: a smaller size, shorter windows, other programs closed
    +- DiskError        LT-DISK     the disk is full, broken, gone, or refuses: free space, or another folder
    +- ResultError      LT-RESULT   a model or a node computed nonsense (NaN, black pictures): another file or node
    +- InstallError     LT-INSTALL  a library, an encoder or a node pack is missing or too old: install it
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from .words import printable

_KINDS: dict[str, type[LongTalkError]] = {}


class LongTalkError(Exception):
    """A problem the user can solve: what was expected, what was found and what to do next.

    ComfyUI shows the class in front of the message, with the module it lies in. So all kinds call themselves
    ``LongTalk`` and claim to be built in, which leaves "LongTalk: audio: expected ..." on the canvas. Nothing can look
    such a class up by its name, therefore an error is copied and pickled by its code.

    What a file or another program put into the words is shown as :func:`~.words.printable` shows it, so a message is
    one line, whatever it quotes.

    Args:
        what: the thing that is wrong, as the user knows it ("audio", "mask of speaker 2").
        expected: what LongTalk needs there.
        actual: what it found.
        action: the next step, as a full sentence without the final period.
    """

    code: ClassVar[str]
    """Of the kind; it stays the same in all versions. The module's docstring lists them."""

    __module__ = "builtins"
    __qualname__ = "LongTalk"

    def __init_subclass__(cls, *, code: str) -> None:
        super().__init_subclass__()
        cls.__module__, cls.__qualname__ = LongTalkError.__module__, LongTalkError.__qualname__
        cls.code = code
        if _KINDS.setdefault(code, cls) is not cls:
            raise ValueError(f"two kinds of errors with the code {code}")

    def __init__(self, what: str, *, expected: str, actual: str, action: str) -> None:
        self.what, self.expected, self.actual = map(printable, (what, expected, actual))
        self.action = printable(action.rstrip("."))
        super().__init__(f"{self.what}: expected {self.expected}, got {self.actual}. {self.action}. [{self.code}]")

    def __reduce__(self) -> tuple[Callable[..., LongTalkError], tuple[str, ...], dict[str, Any]]:
        return _made_again, (self.code, self.what, self.expected, self.actual, self.action), self.__dict__

    def adding(self, sentence: str) -> LongTalkError:
        """An error of the same kind whose next step is followed by one more sentence, given without its period."""
        return type(self)(self.what, expected=self.expected, actual=self.actual, action=f"{self.action}. {sentence}")


def _made_again(code: str, what: str, expected: str, actual: str, action: str) -> LongTalkError:
    return _KINDS[code](what, expected=expected, actual=actual, action=action)


class SettingError(LongTalkError, code="LT-SETTING"):
    """A widget or an argument has a value that cannot be, or that does not fit the others."""


class TextError(SettingError, code="LT-TEXT"):
    """A text that LongTalk reads cannot be read: a schedule's line, keyframes, rerender_from, retake, a time."""


class LinkError(LongTalkError, code="LT-LINK"):
    """Nothing is connected, two things are where one is needed, or what another node gives has another type."""


class ModelError(LongTalkError, code="LT-MODEL"):
    """A model, VAE, encoder or patch of another kind than is needed there."""


class PromptError(LongTalkError, code="LT-PROMPT"):
    """A CONDITIONING that was encoded for another model, or that holds what cannot be used or stored."""


class SoundError(LongTalkError, code="LT-SOUND"):
    """A sound that is empty, silent, too short or broken."""


class PictureError(LongTalkError, code="LT-PICTURE"):
    """A picture, a mask or a latent of another size, form or range of values."""


class FileError(LongTalkError, code="LT-FILE"):
    """A file is missing, damaged, or holds something else."""


class RunError(FileError, code="LT-RUN"):
    """A run on the disk is in use, damaged, not there or not made by LongTalk."""


class TooBigError(LongTalkError, code="LT-MEMORY"):
    """The memory of the GPU or of the machine is not enough."""


class DiskError(LongTalkError, code="LT-DISK"):
    """The disk is full, broken or gone, or does not let LongTalk write."""


class ResultError(LongTalkError, code="LT-RESULT"):
    """A model or another node computed what cannot be used: NaN, black pictures, another shape."""


class InstallError(LongTalkError, code="LT-INSTALL"):
    """A library, an encoder or a node pack that is needed is missing or too old."""
