"""The level of a sound: gain, compressor and limiter, measured and corrected until they give what is asked for.

Why not ``loudnorm``: in one pass it misses the target by 1 to 3 LU on speech and by far more on quiet recordings,
widens some loudness ranges that it should narrow, and resamples to 192 kHz; with measured values it is a plain gain
where the peaks allow, and the same as in one pass where they do not. Here each part does one thing:

- a plain gain brings the sound to the target;
- ``alimiter`` holds the peaks that would pass the ceiling. It looks ahead 5 ms and delays nothing. It knows the samples
  only, not the true peak between them, so it works at 88.2 kHz or more: at 16 kHz it would otherwise have to limit
  speech by 4 dB more to keep the same ceiling;
- ``acompressor`` narrows a loudness range that is too wide, slowly, with all channels together.

The limiter takes loudness away, and bringing its output back to the rate of the sound adds a little to the peaks. So
what came out is measured, and gain, limit and ratio are corrected until all fit: one round for a plain gain, two or
three with a limiter, more with a compressor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from .filters import Filter, Loudness
from .stages import Stages

_TOLERANCE_LU = 0.25
"""How far the loudness may miss its target: half of what is promised, as another meter may differ by 0.1 LU."""
_NEAR_LU = 1.0
"""Only with the loudness this near its target can be told which range will come out."""
_RANGE_TOLERANCE_LU = 0.5
_PEAK_MARGIN_DB = 0.15
"""How far below the ceiling the peak must stay: ffmpeg's meter reads the true peak of drums up to 0.15 dB too low."""
_LEAST_STEP_DB = 0.1
"""A limit is lowered by at least this, times the number of rounds that have not been enough."""
_MOST_ROUNDS = 12
_MOST_RATIO = 20.0
"""The largest ratio of the compressor; a larger one makes it a limiter."""
_MOST_GAIN_DB = 90.0
_LOUD_GAIN_DB = 20.0
"""A larger gain is mentioned in the notes."""

_LIMITER_LOSS = 0.3
"""How much loudness limiting takes per dB by which the peaks pass the ceiling; a first guess, from speech and music."""
_BETWEEN_SAMPLES_DB = 0.5
"""By how much the true peak passes the limit; a first guess as well."""
_LIMITER_HZ = 88_200
"""The limiter works at this rate or above."""
_LOWEST_LIMIT = 0.0625
"""The lowest limit that ``alimiter`` takes."""


@dataclass(frozen=True)
class Levelling:
    """Gain, compressor and limiter of one round.

    Attributes:
        rate_hz: sample rate of the sound.
        gain_db: the whole gain.
        base_db: the part of the gain that lies before the compressor.
        ratio: of the compressor; 1 for none.
        threshold_db: of the compressor.
        limit_db: the highest sample that the limiter lets pass; None for no limiter.
    """

    rate_hz: int
    gain_db: float
    base_db: float
    ratio: float = 1.0
    threshold_db: float = 0.0
    limit_db: float | None = None

    def filters(self) -> list[Filter]:
        found = []
        if self.ratio > 1:
            compressor = (
                ("threshold", min(max(10 ** (self.threshold_db / 20), 0.001), 1.0)),
                ("ratio", min(self.ratio, _MOST_RATIO)),
                ("attack", 200),
                ("release", 1000),
                ("knee", 1),
                ("link", "maximum"),
            )
            found += [_gain(self.base_db), Filter("acompressor", compressor), _gain(self.gain_db - self.base_db)]
        else:
            found.append(_gain(self.gain_db))
        if self.limit_db is not None:
            limit = max(10 ** (self.limit_db / 20), _LOWEST_LIMIT)
            limiter = Filter("alimiter", (("limit", limit), ("level", "disabled"), ("latency", "1")))
            times = -(-_LIMITER_HZ // self.rate_hz)
            found += [limiter] if times == 1 else [_at(times * self.rate_hz), limiter, _at(self.rate_hz)]
        return found


def _at(rate_hz: int) -> Filter:
    """The filter that brings a sound to another rate.

    Up and down again, it leaves what lies below 0.95 of half the rate as it was, to -59 dB and better.
    """
    return Filter("aresample", (("sample_rate", str(rate_hz)), ("filter_size", 128), ("cutoff", 0.98)))


def _gain(gain_db: float) -> Filter:
    return Filter("volume", (("volume", f"{gain_db:.2f}dB"), ("precision", "double")))


@dataclass
class LevelSearch:
    """Looks for the levelling that gives what the stages ask for.

    Attributes:
        stages: say what is asked for; without a loudness, the gain stays 0.
        toned: the loudness of the sound before it is levelled.
        rate_hz: sample rate of the sound.
        tried: every levelling that was tried, and the loudness of what came out.
    """

    stages: Stages
    toned: Loudness
    rate_hz: int
    tried: list[tuple[Levelling, Loudness]] = field(default_factory=list)

    def rounds(self) -> Iterator[Levelling]:
        """What to try until one fits; nothing if the sound fits as it is. :meth:`found` is told what each gave."""
        if self._fits(self.toned):
            return
        level = self._first()
        for _ in range(_MOST_ROUNDS):
            yield level
            if self._fits(self.tried[-1][1]):
                return
            level = self._next()
        yield self._best()

    def found(self, level: Levelling, loudness: Loudness) -> Loudness:
        self.tried.append((level, loudness))
        return loudness

    def notes(self) -> list[str]:
        """What was done, in words; nothing for a sound that was left alone."""
        if not self.tried:
            return []
        level, found = self.tried[-1]
        stages = self.stages
        notes = []
        gain_db = level.gain_db if level.ratio == 1 else level.base_db
        if abs(gain_db) >= 0.005:
            noise = "; noise between the words is raised as well" if gain_db > _LOUD_GAIN_DB else ""
            notes.append(f"gain {gain_db:+.1f} dB{noise}")
        if level.ratio > 1:
            behind = f"{level.ratio:.1f} to 1, then {level.gain_db - level.base_db:+.1f} dB"
            notes.append(f"loudness range of {self.toned.range_lu:.1f} LU compressed {behind}")
        if level.limit_db is not None:
            over_db = self.toned.true_peak_db + level.gain_db - (stages.ceiling_db or 0.0)
            highest = f"; the highest was {over_db:.1f} dB above" if level.ratio == 1 and over_db > 0 else ""
            notes.append(f"peaks held at {stages.ceiling_db:g} dB{highest}")
        loudness, range_over, _ = self._missed(found)
        if abs(loudness) > _TOLERANCE_LU:
            notes.append(f"the loudness misses its target by {-loudness:+.1f} LU: such peaks leave no more room")
        if range_over:
            notes.append(f"the loudness range stays at {found.range_lu:.1f} LU")
        if stages.ceiling_db is not None and found.true_peak_db > stages.ceiling_db:
            notes.append(f"the true peak stays at {found.true_peak_db:.1f} dB")
        return notes

    def _first(self) -> Levelling:
        stages, toned = self.stages, self.toned
        gain_db = 0.0
        if stages.loudness_lufs is not None and toned.integrated_lufs is not None:
            gain_db = stages.loudness_lufs - toned.integrated_lufs
        level = Levelling(self.rate_hz, gain_db, gain_db, threshold_db=toned.low_lufs + gain_db)
        if stages.ceiling_db is None:
            return level
        over_db = toned.true_peak_db + gain_db - stages.ceiling_db
        if over_db > -_PEAK_MARGIN_DB:
            lost_db = _LIMITER_LOSS * over_db if stages.loudness_lufs is not None else 0.0
            level = replace(level, gain_db=gain_db + lost_db, limit_db=stages.ceiling_db - _BETWEEN_SAMPLES_DB)
        return level

    def _missed(self, found: Loudness) -> tuple[float, float, float]:
        """By how much a result misses what is asked for.

        Returns:
            The loudness that is missing in LU, below 0 for too much; by how many LU the range is too wide; and by how
            many dB the peak is too high. The last two are 0 where they fit.
        """
        stages = self.stages
        loudness = range_over = peak_over = 0.0
        if stages.loudness_lufs is not None and found.integrated_lufs is not None:
            loudness = stages.loudness_lufs - found.integrated_lufs
        if stages.range_lu is not None:
            range_over = max(found.range_lu - stages.range_lu - _RANGE_TOLERANCE_LU, 0.0)
        if stages.ceiling_db is not None:
            peak_over = max(found.true_peak_db - stages.ceiling_db + _PEAK_MARGIN_DB, 0.0)
        return loudness, range_over, peak_over

    def _fits(self, found: Loudness) -> bool:
        loudness, range_over, peak_over = self._missed(found)
        return abs(loudness) <= _TOLERANCE_LU and not range_over and not peak_over

    def _next(self) -> Levelling:
        """The levelling to try after the last one, with all corrections at once."""
        level, found = self.tried[-1]
        loudness, range_over, peak_over = self._missed(found)
        changed = level
        if abs(loudness) > _TOLERANCE_LU:
            gain_db = level.gain_db + loudness / self._slope()
            changed = replace(changed, gain_db=min(gain_db, level.base_db + _MOST_GAIN_DB))
        if peak_over:
            before = self.stages.ceiling_db if level.limit_db is None else level.limit_db
            assert before is not None
            changed = replace(changed, limit_db=before - max(peak_over, _LEAST_STEP_DB * len(self.tried)))
        # Limiting narrows the range, too; often by enough.
        if range_over and abs(loudness) <= _NEAR_LU:
            assert self.stages.range_lu is not None
            # Behind the compressor, quiet sound has got the rest of the gain; before it, it lies so much lower.
            quiet_db = found.low_lufs - (level.gain_db - level.base_db)
            ratio = level.ratio * max(found.range_lu / self.stages.range_lu, 1.1)
            changed = replace(changed, ratio=min(ratio, _MOST_RATIO), threshold_db=min(level.threshold_db, quiet_db))
        return changed

    def _slope(self) -> float:
        """How much louder the result gets per dB of gain; less than 1 where the limiter works."""
        level, found = self.tried[-1]
        if level.limit_db is None and level.ratio == 1:
            return 1.0
        if len(self.tried) > 1:
            before, earlier = self.tried[-2]
            step_db = level.gain_db - before.gain_db
            same = level.ratio == before.ratio and abs((level.limit_db or 0) - (before.limit_db or 0)) < 0.3
            if same and abs(step_db) > 0.1:
                louder = (found.integrated_lufs or 0.0) - (earlier.integrated_lufs or 0.0)
                return min(max(louder / step_db, 0.3), 1.0)
        return 0.6

    def _best(self) -> Levelling:
        """The best levelling of all rounds, with the peak as the first concern."""

        def badness(entry: tuple[Levelling, Loudness]) -> tuple[bool, float]:
            loudness, range_over, peak_over = self._missed(entry[1])
            return peak_over > 0, abs(loudness) + range_over

        return min(self.tried, key=badness)[0]
