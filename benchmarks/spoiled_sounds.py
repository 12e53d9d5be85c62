"""Speech spoiled on purpose, in several strengths, with what a report has to say about it; and speech that is fine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from longtalk.audio.prepare.filters import Filter, through
from longtalk.audio.reading.resample import resample
from longtalk.audio.report.findings import Kind

RATE_HZ = 48_000

Spoil = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Case:
    """One way to treat speech.

    Attributes:
        name: of the treatment.
        make: float32 ``[1, N]`` at 48 kHz -> ``[C, N]``.
        expected: what has to be found.
        allowed: what may be found besides, because it follows.
    """

    name: str
    make: Spoil
    expected: frozenset[Kind] = frozenset()
    allowed: frozenset[Kind] = field(default_factory=frozenset)


def at(hz: int) -> Spoil:
    """Down to a rate and up again."""
    return lambda sound: _resampled(_resampled(sound, RATE_HZ, hz), hz, RATE_HZ)[:, : sound.shape[1]]


def _resampled(sound: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    return resample(torch.from_numpy(np.ascontiguousarray(sound)), from_hz, to_hz).numpy()


def filtered(name: str, **options: str | float) -> Spoil:
    """Through a filter of ffmpeg."""
    chosen = Filter(name, tuple(options.items()))
    return lambda sound: np.concatenate(list(through([sound], [chosen], RATE_HZ, sound.shape[0])), axis=1)


def gain(db: float) -> Spoil:
    return lambda sound: sound * np.float32(10 ** (db / 20))


def clipped(db: float, after_db: float = 0.0) -> Spoil:
    """Driven into full scale by so much, then turned down."""

    def make(sound: np.ndarray) -> np.ndarray:
        driven = sound / np.abs(sound).max() * 10 ** (db / 20)
        return (np.clip(driven, -1, 1) * 10 ** (after_db / 20)).astype(np.float32)

    return make


def noise(samples: int, colour: float, seed: int = 0) -> np.ndarray:
    """``[N]`` of power 1, falling with frequency to the power of ``colour`` (0 white, 1 pink, 2 brown) above 50 Hz."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(samples))
    spectrum /= np.maximum(np.fft.rfftfreq(samples, 1 / RATE_HZ), 50.0) ** (colour / 2)
    made = np.fft.irfft(spectrum, samples)
    return (made / made.std()).astype(np.float32)


def chord(samples: int) -> np.ndarray:
    """``[N]`` of power 1: three notes with overtones that swell, as an organ under the speech."""
    t = np.arange(samples) / RATE_HZ
    made = sum(np.sin(2 * np.pi * hz * k * t) / k for hz in (220.0, 277.2, 329.6) for k in (1, 2, 3, 4))
    made *= 1 + 0.3 * np.sin(2 * np.pi * 0.7 * t)
    return (made / made.std()).astype(np.float32)


def hum(samples: int) -> np.ndarray:
    """``[N]`` of power 1: 100 Hz."""
    return (np.sqrt(2) * np.sin(2 * np.pi * 100 * np.arange(samples) / RATE_HZ)).astype(np.float32)


def boom(above_db: float) -> Spoil:
    """60 to 300 Hz so far above 300 to 800 Hz, at the old RMS."""

    def make(sound: np.ndarray) -> np.ndarray:
        spectrum, hz = np.fft.rfft(sound), np.fft.rfftfreq(sound.shape[1], 1 / RATE_HZ)
        part = np.clip((300 - hz) / 120, 0, 1)  # of the gain in dB: all of it up to 180 Hz
        least, most = -30.0, 60.0
        for _ in range(30):
            gain_db = (least + most) / 2
            power = np.square(np.abs(spectrum[0] * 10 ** (gain_db * part / 20)))
            low, high = (power[(hz >= edges[0]) & (hz < edges[1])].sum() for edges in ((60, 300), (300, 800)))
            least, most = (gain_db, most) if 10 * np.log10(low / high) < above_db else (least, gain_db)
        made = np.fft.irfft(spectrum * 10 ** (gain_db * part / 20), sound.shape[1])
        return (made * (sound.std() / made.std())).astype(np.float32)

    return make


def with_sound(below_db: float, other: Callable[[int], np.ndarray]) -> Spoil:
    """Another sound under the speech, so far below the speech while it lasts."""

    def make(sound: np.ndarray) -> np.ndarray:
        return sound + other(sound.shape[1]) * (_active_rms(sound) * 10 ** (-below_db / 20))

    return make


def gated(below_db: float) -> Spoil:
    """White noise, and digital silence where nobody speaks."""
    noisy = with_sound(below_db, lambda samples: noise(samples, 0))

    def make(sound: np.ndarray) -> np.ndarray:
        envelope = np.convolve(np.abs(sound[0]), np.ones(RATE_HZ // 10) / (RATE_HZ // 10), "same")
        return np.where(envelope > 0.02 * np.abs(sound).max(), noisy(sound), 0).astype(np.float32)

    return make


def _active_rms(sound: np.ndarray) -> float:
    """Of the 20 ms pieces that are not 30 dB below the loudest."""
    whole = sound[0, : sound.shape[1] // 960 * 960].reshape(-1, 960)
    power = np.square(whole).mean(axis=1)
    return float(np.sqrt(power[power > power.max() / 1000].mean()))


def overdriven(db: float) -> Spoil:
    """Through an amplifier that saturates softly, driven as hard as that."""
    return lambda sound: (0.95 * np.tanh(sound / np.abs(sound).max() * 10 ** (db / 20))).astype(np.float32)


def _faint(seconds: float) -> np.ndarray:
    """Noise at -80 dBFS, ``[1, N]``."""
    return (1e-4 * np.random.default_rng(1).standard_normal((1, round(seconds * RATE_HZ)))).astype(np.float32)


def padded(before_s: float, after_s: float) -> Spoil:
    """Silence with a little noise around it."""

    def make(sound: np.ndarray) -> np.ndarray:
        before, after = (_faint(seconds) for seconds in (before_s, after_s))
        return np.concatenate([before, sound, after], axis=1)

    return make


def paused(seconds: float) -> Spoil:
    """Silence in the quietest place around the middle."""

    def make(sound: np.ndarray) -> np.ndarray:
        third = sound.shape[1] // 3
        heard = np.convolve(np.abs(sound[0, third : 2 * third]), np.ones(4800), "same")
        place = third + int(heard.argmin())
        return np.concatenate([sound[:, :place], _faint(seconds), sound[:, place:]], axis=1)

    return make


def beside(make: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    """Stereo: the speech on the left, this on the right."""
    return lambda sound: np.concatenate([sound, make(sound).astype(np.float32)], axis=0)


def _part_inverted(sound: np.ndarray) -> np.ndarray:
    other = sound.copy()
    other[:, : sound.shape[1] // 2] *= -1
    return other


def _delayed(sound: np.ndarray) -> np.ndarray:
    return np.roll(sound, RATE_HZ // 100, axis=1)


def cases() -> Iterator[Case]:
    """Every treatment, the fine ones among them."""

    def case(name: str, make: Spoil, *expected: Kind, allowed: tuple[Kind, ...] = ()) -> Case:
        return Case(name, make, frozenset(expected), frozenset(allowed))

    yield case("as it is", lambda sound: sound)
    yield case("16 kHz", at(16_000))
    yield case("1 dB louder than full scale, not cut", lambda sound: sound / np.abs(sound).max() * np.float32(1.1))
    yield case("6 dB quieter", gain(-6))
    yield case("brighter by 4 dB", filtered("highshelf", f=3000, g=4))
    yield case("60 to 300 Hz 6 dB above 300 to 800", boom(6), allowed=(Kind.DULL,))
    yield case("offset 0.003", lambda sound: sound + np.float32(0.003))
    yield case("stereo of twice the same", beside(lambda sound: sound))
    yield case("stereo, 10 ms apart", beside(_delayed))
    yield case("stereo, right 12 dB quieter", beside(gain(-12)))
    yield case("0.8 s before and after", padded(0.8, 0.8))
    yield case("pause of 2 s", paused(2.0))
    for db in (40, 30):
        yield case(f"white noise {db} dB below", with_sound(db, lambda samples: noise(samples, 0)))
        yield case(f"pink noise {db} dB below", with_sound(db, lambda samples: noise(samples, 1)))

    for db in (3, 6, 12):
        yield case(f"clipped by {db} dB", clipped(db), Kind.CLIPPED, allowed=(Kind.LOUD, Kind.OFFSET))
    yield case("clipped by 6 dB, then down by 10", clipped(6, -10), Kind.CLIPPED)
    yield case("clipped by 9 dB, then down by 20", clipped(9, -20), Kind.CLIPPED, allowed=(Kind.QUIET,))
    yield case("9 dB over full scale", lambda sound: sound / np.abs(sound).max() * np.float32(2.8), Kind.OVER,
               allowed=(Kind.LOUD,))  # fmt: skip
    # Quiet words are lost in noise, so that pauses grow.
    faint = (Kind.NO_SPEECH, Kind.OVER, Kind.HEAD, Kind.TAIL, Kind.PAUSE, Kind.DULL, Kind.BOOM)
    for db in (10, 7, 4):
        yield case(f"white noise {db} dB below", with_sound(db, lambda samples: noise(samples, 0)), Kind.NOISE,
                   allowed=faint[:5])  # fmt: skip
        yield case(f"pink noise {db} dB below", with_sound(db, lambda samples: noise(samples, 1)), Kind.NOISE,
                   allowed=faint)  # fmt: skip
    yield case("brown noise 5 dB below", with_sound(5, lambda samples: noise(samples, 2)), Kind.NOISE, allowed=faint)
    for db in (12, 6):
        yield case(f"organ {db} dB below", with_sound(db, chord), Kind.NOISE, allowed=faint)
    for db in (10, 5):
        yield case(f"white noise {db} dB below, gated", gated(db), Kind.NOISE, allowed=faint[:5])
    yield case("hum as loud as the speech", with_sound(0, hum), Kind.NOISE, allowed=faint)
    for hz in (8000, 11025):
        yield case(f"{hz} Hz", at(hz), Kind.NARROW, allowed=(Kind.DULL,))
    yield case("telephone", lambda sound: at(8000)(filtered("highpass", f=300)(sound)), Kind.NARROW)
    for db in (12, 18, 30):
        yield case(f"sibilance down by {db} dB", filtered("highshelf", f=3000, g=-db, t="s", w=1), Kind.DULL)
    yield case("behind a curtain", filtered("lowpass", f=1500, p=2), Kind.DULL, allowed=(Kind.BOOM,))
    for db in (14, 20):
        yield case(f"60 to 300 Hz {db} dB above 300 to 800", boom(db), Kind.BOOM, allowed=(Kind.DULL,))
    yield case("25 dB quieter", gain(-25), Kind.QUIET)
    yield case("35 dB quieter", gain(-35), Kind.QUIET, allowed=(Kind.NO_SPEECH,))
    yield case("overdriven", overdriven(26), Kind.LOUD, allowed=(Kind.CLIPPED, Kind.NOISE, Kind.OFFSET))
    for offset in (0.02, -0.1):
        yield case(f"offset {offset}", lambda sound, offset=offset: sound + np.float32(offset), Kind.OFFSET)
    yield case("right channel dead", beside(lambda sound: sound * 0), Kind.DEAD_CHANNEL)
    yield case("right channel crosstalk", beside(gain(-60)), Kind.DEAD_CHANNEL)
    yield case("right channel inverted", beside(lambda sound: -sound), Kind.CANCELLED)
    yield case("right channel inverted in the first half", beside(_part_inverted), Kind.CANCELLED,
               allowed=(Kind.HEAD, Kind.PAUSE, Kind.TAIL))  # fmt: skip
    yield case("3 s before", padded(3, 0), Kind.HEAD)
    yield case("4 s after", padded(0, 4), Kind.TAIL)
    yield case("pause of 5 s", paused(5.0), Kind.PAUSE)
    yield case("silence", lambda sound: sound * 0, Kind.SILENT)
    yield case("dither", lambda sound: noise(sound.shape[1], 0)[None] * np.float32(1e-5), Kind.SILENT)
    yield case("noise alone", lambda sound: noise(sound.shape[1], 1)[None] * np.float32(0.1), Kind.NO_SPEECH)
    yield case("organ alone", lambda sound: chord(sound.shape[1])[None] * np.float32(0.1), Kind.NO_SPEECH,
               allowed=(Kind.NARROW,))  # fmt: skip
    yield case("0.6 s of it", lambda sound: sound[:, round(2.2 * RATE_HZ) : round(2.8 * RATE_HZ)], Kind.SHORT,
               allowed=(Kind.NO_SPEECH, Kind.NOISE, Kind.DULL))  # fmt: skip
