"""What is done to a sound before a model hears it: the stages, their presets, and the filters of the tone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...base.errors import LongTalkError, SettingError
from ...base.values import check_choice, check_number, shown
from .filters import Filter

BANDS = ((200.0, 1.0), (400.0, 1.2), (3000.0, 1.0), (6500.0, 0.7))
"""The peaking equalisers: the centre of each in Hz, and its Q."""

DOUBLE = Filter("aformat", (("sample_fmts", "dblp"),))
"""Comes first: left alone, ffmpeg's filters take the precision of the file, and what five filters round to 16 bits adds
up, or is clipped between them."""

AS_PRESET, OFF = "as preset", "off"
MAX_TRIM_S = 360_000.0
"""A hundred hours: no sound is longer."""


@dataclass(frozen=True)
class Stages:
    """What is done, in this order. None, or 0 for a gain, leaves a stage out.

    Attributes:
        start_s, end_s: the stretch that is kept, ``[start, end)``; None is the end of the sound.
        high_pass_hz: frequencies below are damped by 12 dB per octave.
        gains_db: the gain of each of :data:`BANDS`.
        loudness_lufs: the integrated loudness after EBU R128.
        range_lu: the largest loudness range after EBU Tech 3342; a wider one is compressed.
        ceiling_db: the highest true peak; what would pass it is limited.
    """

    start_s: float = 0.0
    end_s: float | None = None
    high_pass_hz: float | None = None
    gains_db: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    loudness_lufs: float | None = None
    range_lu: float | None = None
    ceiling_db: float | None = None


LTX = Stages(high_pass_hz=80.0, gains_db=(-3.0, -2.0, 4.0, 3.0), loudness_lufs=-16.0, range_lu=11.0, ceiling_db=-2.0)
"""For LTX-2.3, whose audio VAE hears a 16 kHz mel spectrogram: less boom, more consonants."""
INFINITETALK = Stages(loudness_lufs=-23.0, ceiling_db=-2.0)
"""For InfiniteTalk, whose encoder was trained at this level; it makes its own mono at 16 kHz."""
PRESETS: Mapping[str, Stages] = {"LTX": LTX, "InfiniteTalk": INFINITETALK, OFF: Stages()}


@dataclass(frozen=True)
class Setting:
    """One stage as users set it: "as preset", "off" or a number.

    Attributes:
        name: of the widget; the command line has dashes for its underscores.
        lowest, highest: the range of the number.
        unit: of the number.
        what: the stage does, in words.
        band: for the gain of an equaliser, its index in :data:`BANDS`.
    """

    name: str
    lowest: float
    highest: float
    unit: str
    what: str
    band: int | None = None

    def of_preset(self, preset: str) -> str:
        """What a preset sets this stage to, as text."""
        stages = PRESETS[preset]
        number = getattr(stages, self.name) if self.band is None else stages.gains_db[self.band]
        return f"{number:g}" if number else OFF

    def parsed(self, value: object) -> float | None:
        """The number, or None for "off".

        Raises:
            LongTalkError
        """
        text = value.strip().lower() if isinstance(value, str) else ""
        if text == OFF:
            return None
        try:
            return check_number(float(text) if text else value, self.name, self.lowest, self.highest)
        except (ValueError, LongTalkError):
            raise SettingError(
                self.name,
                expected=f"{AS_PRESET!r}, {OFF!r} or a number from {self.lowest:g} to {self.highest:g} ({self.unit})",
                actual=shown(value),
                action="Write one of them",
            ) from None


def _band(number: int, words: str) -> Setting:
    hz, q = BANDS[number]
    return Setting(f"eq_{hz:g}_hz", -24.0, 24.0, "dB", f"gain at {hz:g} Hz (Q {q:g}): {words}", number)


SETTINGS = (
    Setting("high_pass_hz", 10.0, 1000.0, "Hz", "damp what is below this frequency: rumble, handling, wind"),
    _band(0, "boom"),
    _band(1, "box"),
    _band(2, "presence, what makes words clear"),
    _band(3, "sibilants"),
    Setting("loudness_lufs", -40.0, -5.0, "LUFS", "integrated loudness after EBU R128"),
    Setting("range_lu", 1.0, 50.0, "LU", "the widest loudness range; a wider one is compressed"),
    Setting("ceiling_db", -9.0, 0.0, "dB", "the highest true peak; what would pass it is limited"),
)


def stages_from(preset: object, settings: Mapping[str, object], start_s: object = 0.0, end_s: object = 0.0) -> Stages:
    """A preset with some of its stages set otherwise.

    Args:
        preset: a name in :data:`PRESETS`.
        settings: by the names of the :data:`SETTINGS`: "as preset", "off" or a number, also as text.
        start_s, end_s: the stretch to keep; an end of 0 is that of the sound.

    Raises:
        LongTalkError
    """
    stages = PRESETS[check_choice(preset, "preset", PRESETS)]
    for setting in SETTINGS:
        value = settings.get(setting.name, AS_PRESET)
        if isinstance(value, str) and value.strip().lower() in (AS_PRESET, ""):
            continue
        number = setting.parsed(value)
        if setting.band is None:
            changed: dict[str, Any] = {setting.name: number}
            stages = replace(stages, **changed)
        else:
            gains_db = list(stages.gains_db)
            gains_db[setting.band] = number or 0.0
            stages = replace(stages, gains_db=tuple(gains_db))
    start = check_number(start_s, "start", 0.0, MAX_TRIM_S)
    end = check_number(end_s, "end", 0.0, MAX_TRIM_S) or None
    if end is not None and end <= start:
        raise SettingError(
            "end",
            expected=f"a time after the start ({start:g} s), or 0 for the end of the sound",
            actual=f"{end:g} s",
            action="Set it later",
        )
    return replace(stages, start_s=start, end_s=end)


def tone_filters(stages: Stages, rate_hz: int) -> tuple[list[Filter], list[str]]:
    """The filters of high-pass and equaliser, and notes on those that make no sense at this sample rate."""
    filters, notes = [], []
    low_hz = stages.high_pass_hz
    wanted = [(low_hz, Filter("highpass", (("f", low_hz),)))] if low_hz else []
    wanted += [
        (hz, Filter("equalizer", (("f", hz), ("t", "q"), ("w", q), ("g", gain_db))))
        for (hz, q), gain_db in zip(BANDS, stages.gains_db, strict=True)
        if gain_db
    ]
    for hz, each in wanted:
        if 2 * hz < rate_hz:
            filters.append(each)
        else:
            notes.append(f"{each.name} at {hz:g} Hz left out: {rate_hz} Hz sound has nothing above {rate_hz / 2:g} Hz")
    return [DOUBLE, *filters] if filters else [], notes
