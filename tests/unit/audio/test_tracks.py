"""Checks at the door, conversions, loudness and the arrangement of several speakers."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyloudnorm
import pytest
import torch
import torchaudio
from amounts import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from longtalk.audio.prepare.loudness import integrated_loudness
from longtalk.audio.reading.resample import resample, resampled_length
from longtalk.audio.tracks import Track, TrackMode, arrange, mono, normalize_loudness, track_from_audio
from longtalk.base.errors import LongTalkError
from longtalk.infinitetalk.plan.windows import frames_for_samples

QUICK = settings(max_examples=examples(60), deadline=None)


def noise(channels: int, samples: int, seed: int = 0, level: float = 0.1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.empty(channels, samples).normal_(0.0, level, generator=generator).clamp_(-4 * level, 4 * level)


def speechlike(rate_hz: int, seconds: float, seed: int = 0) -> np.ndarray:
    """Syllables of a gliding voice with pauses over a faint hiss, float32 [N]."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(rate_hz * seconds)) / rate_hz
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * t)) / rate_hz
    voice = sum(np.sin(k * phase) / k for k in range(1, 25) if 200 * k < rate_hz)
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * t), 0, 1) * (np.sin(2 * np.pi * 0.23 * t) > -0.4)
    return (0.2 * voice * syllables + 0.001 * rng.standard_normal(t.size)).astype(np.float32)


class LazyAudio(Mapping[str, object]):
    """Decodes when asked, as video helper packs do."""

    def __init__(self, fail: Exception | None = None) -> None:
        self.fail = fail

    def __getitem__(self, key: str) -> object:
        if self.fail is not None:
            raise self.fail
        return {"waveform": noise(2, 48000)[None], "sample_rate": 48000}[key]

    def __iter__(self) -> Iterator[str]:
        return iter(("waveform", "sample_rate"))

    def __len__(self) -> int:
        return 2


GOOD = noise(1, 16000)[None]
BANNER = "ffmpeg version 6.1\n" + "  configuration: --enable-everything\n" * 30 + "pipe:0: Invalid data found\n"


class TestRefusals:
    @pytest.mark.parametrize(
        ("audio", "words"),
        [
            (None, ["nothing", "video without sound"]),
            ("speech.wav", ["type str"]),
            (7, ["type int"]),
            ([GOOD], ["type list"]),
            (GOOD, ["type Tensor"]),
            ({}, ["type dict"]),
            ({"waveform": GOOD}, ["type dict"]),
            ({"waveform": None, "sample_rate": 16000}, ["nothing"]),
            ({"waveform": GOOD.to("meta"), "sample_rate": 16000}, ["empty shell"]),
            ({"waveform": GOOD.to_sparse(), "sample_rate": 16000}, ["sparse"]),
            ({"waveform": GOOD.to(torch.float8_e4m3fn), "sample_rate": 16000}, ["float8_e4m3fn"]),
            ({"waveform": GOOD[0].numpy() > 0, "sample_rate": 16000}, ["got a ndarray"]),
            ({"waveform": (GOOD * 32768).trunc(), "sample_rate": 16000}, ["peak", "32768"]),
            ({"waveform": torch.zeros(1, 1, 0), "sample_rate": 16000}, ["empty", "[1, 1, 0]"]),
            ({"waveform": torch.zeros(0, 1, 16000), "sample_rate": 16000}, ["empty"]),
            ({"waveform": torch.zeros(1, 0, 16000), "sample_rate": 16000}, ["empty"]),
            ({"waveform": GOOD.repeat(3, 1, 1), "sample_rate": 16000}, ["batch of 3", "Pick one"]),
            ({"waveform": GOOD[None], "sample_rate": 16000}, ["[1, 1, 1, 16000]"]),
            ({"waveform": torch.tensor(0.5), "sample_rate": 16000}, ["shape []"]),
            ({"waveform": GOOD.to(torch.int64), "sample_rate": 16000}, ["int64"]),
            ({"waveform": GOOD > 0, "sample_rate": 16000}, ["bool"]),
            ({"waveform": GOOD.to(torch.complex64), "sample_rate": 16000}, ["complex64"]),
            ({"waveform": torch.full((1, 2, 1), 0.25), "sample_rate": 44100}, ["1 samples", "peak 0.25", "0.04 s"]),
            (
                {"waveform": GOOD.transpose(1, 2), "sample_rate": 16000},
                ["expected a waveform [batch, channels, samples]", "[1, 16000, 1]", "axes seem swapped"],
            ),
            ({"waveform": GOOD[0].T, "sample_rate": 16000}, ["[16000, 1]", "Swap the last two axes"]),
            (
                LazyAudio(OSError(BANNER)),
                ["OSError: ffmpeg version 6.1 ... pipe:0: Invalid data found. Check the file"],
            ),
            (LazyAudio(RuntimeError("ffmpeg: no audio stream")), ["RuntimeError: ffmpeg: no audio stream"]),
        ],
    )
    def test_not_a_usable_audio(self, audio: object, words: list[str]) -> None:
        with pytest.raises(LongTalkError) as caught:
            track_from_audio(audio, "speaker 2")
        message = str(caught.value)
        assert message.startswith("speaker 2: expected ")
        for word in words:
            assert word in message

    @pytest.mark.parametrize("rate", [16000.0, np.float64(16000), np.int32(16000)])
    def test_whole_numbers_of_any_kind_are_sample_rates(self, rate: object) -> None:
        """As nodes that calculate and nodes that speak give them."""
        track = track_from_audio({"waveform": GOOD, "sample_rate": rate})
        assert (track.sample_rate, type(track.sample_rate)) == (16000, int)

    @pytest.mark.parametrize("rate", [0, -16000, 44.1, 44100.5, "48000", None, True, 48, 10**9, [16000]])
    def test_sample_rate(self, rate: object) -> None:
        with pytest.raises(LongTalkError, match="sample rate of audio: expected a whole number of Hz") as caught:
            track_from_audio({"waveform": GOOD, "sample_rate": rate})
        assert repr(rate) in str(caught.value)

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_values_that_are_not_finite(self, value: float) -> None:
        waveform = GOOD.repeat(1, 2, 1)
        waveform[0, 1, 8000] = value
        with pytest.raises(LongTalkError, match=r"1 NaN or infinite values, the first at 0\.500 s"):
            track_from_audio({"waveform": waveform, "sample_rate": 16000})

    @pytest.mark.parametrize(("rate_hz", "least"), [(44100, 1764), (16000, 640), (22050, 882), (11025, 441)])
    def test_one_frame_is_the_least(self, rate_hz: int, least: int) -> None:
        audio = {"waveform": noise(1, least)[None], "sample_rate": rate_hz}
        assert frames_for_samples(track_from_audio(audio).samples, rate_hz) == 1
        audio["waveform"] = audio["waveform"][..., 1:]
        with pytest.raises(LongTalkError, match=f"{least - 1} samples"):
            track_from_audio(audio)


class TestAccepted:
    @pytest.mark.parametrize("shape", [(16000,), (1, 16000), (8, 16000), (1, 2, 16000)])
    def test_shapes(self, shape: tuple[int, ...]) -> None:
        waveform = noise(1, math.prod(shape)).reshape(shape)
        track = track_from_audio({"waveform": waveform, "sample_rate": 16000})
        assert torch.equal(track.waveform, waveform.reshape(-1, 16000))
        assert track.waveform.data_ptr() == waveform.data_ptr(), "a float32 waveform is not copied"
        assert (track.samples, track.duration_s) == (16000, 1.0)

    def test_lazy_mapping_and_numpy(self) -> None:
        assert track_from_audio(LazyAudio()).channels == 2
        track = track_from_audio({"waveform": GOOD.numpy(), "sample_rate": np.int64(16000)})
        assert torch.equal(track.waveform, GOOD[0])
        assert type(track.sample_rate) is int

    def test_other_layouts_of_numpy(self) -> None:
        array = GOOD.numpy()[0]
        for other in (
            array[:, ::-1][:, ::-1],
            array.astype(">f4"),
            array.astype(np.longdouble),
            np.asfortranarray(array),
        ):
            assert torch.equal(track_from_audio({"waveform": other, "sample_rate": 16000}).waveform, GOOD[0])
        backwards = track_from_audio({"waveform": array[:, ::-1], "sample_rate": 16000})
        assert torch.equal(backwards.waveform, GOOD[0].flip(-1))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_floats(self, dtype: torch.dtype) -> None:
        waveform = (GOOD * 30).to(dtype)  # far beyond full scale, which is allowed
        track = track_from_audio({"waveform": waveform, "sample_rate": 16000})
        assert track.waveform.dtype == torch.float32
        assert torch.equal(track.waveform, waveform[0].float())
        assert track.peak == float(waveform.float().abs().max()) > 1

    @pytest.mark.parametrize(
        ("dtype", "ffmpeg_format"), [(torch.uint8, "u8"), (torch.int16, "s16"), (torch.int32, "s32")]
    )
    def test_integers_scale_as_in_ffmpeg(self, dtype: torch.dtype, ffmpeg_format: str) -> None:
        info = torch.iinfo(dtype)
        values = torch.randint(info.min, info.max + 1, (1, 4800), generator=torch.Generator().manual_seed(1))
        values[0, :2] = torch.tensor([info.min, info.max])
        values = values.to(dtype)
        frame = av.AudioFrame.from_ndarray(values.numpy(), format=ffmpeg_format, layout="mono")
        frame.sample_rate = 48000
        converter = av.AudioResampler(format="flt", layout="mono", rate=48000)
        expected = np.concatenate([f.to_ndarray() for f in [*converter.resample(frame), *converter.resample(None)]], 1)
        track = track_from_audio({"waveform": values, "sample_rate": 48000})
        np.testing.assert_array_equal(track.waveform.numpy(), expected)

    def test_signed_bytes(self) -> None:
        values = torch.tensor([[-128, 0, 64]], dtype=torch.int8).repeat(1, 1000)
        track = track_from_audio({"waveform": values, "sample_rate": 16000})
        assert track.waveform[0, :3].tolist() == [-1.0, 0.0, 0.5]

    @QUICK
    @given(
        channels=st.integers(1, 8),
        samples=st.integers(1, 3000),
        rate_hz=st.integers(1000, 192000),
        batch=st.sampled_from([None, 1, 2]),
    )
    def test_any_size_is_a_track_or_a_message(
        self, channels: int, samples: int, rate_hz: int, batch: int | None
    ) -> None:
        waveform = noise(channels, samples)
        audio = {"waveform": waveform if batch is None else waveform.repeat(batch, 1, 1), "sample_rate": rate_hz}
        if batch == 2 or Fraction(samples, rate_hz) < Fraction(1, 25):
            with pytest.raises(LongTalkError):
                track_from_audio(audio)
        else:
            track = track_from_audio(audio)
            assert torch.equal(track.waveform, waveform)
            assert track.peak == float(waveform.abs().max())
            assert mono(track).shape == (resampled_length(samples, rate_hz, 16000),)


class TestMono:
    @pytest.mark.parametrize("rate_hz", [8000, 22050, 44100, 48000, 96000])
    def test_equals_the_order_of_comfyui(self, rate_hz: int) -> None:
        track = Track(noise(6, rate_hz, seed=3, level=0.2), rate_hz)
        core = torchaudio.functional.resample(track.waveform[None], rate_hz, 16000).mean(dim=1)[0]
        assert mono(track).shape == core.shape
        assert (mono(track) - core).abs().max() < 1e-6

    def test_same_rate_is_the_plain_mean(self) -> None:
        track = Track(noise(2, 16000), 16000)
        assert torch.equal(mono(track), track.waveform.mean(dim=0))
        single = Track(noise(1, 16000), 16000)
        assert torch.equal(mono(single), single.waveform[0])

    @pytest.mark.parametrize(("from_hz", "to_hz"), [(44101, 16000), (22254, 16000), (16001, 44100), (44100, 16000)])
    def test_rates_without_a_common_divisor(self, from_hz: int, to_hz: int) -> None:
        def tones(rate_hz: int) -> torch.Tensor:
            t = torch.arange(2 * rate_hz, dtype=torch.float64) / rate_hz
            return sum(torch.sin(2 * torch.pi * f * t + f) for f in (130, 440, 997, 2500))[None].float() / 4

        out = resample(tones(from_hz), from_hz, to_hz)
        assert out.shape == (1, 2 * to_hz)
        inside = slice(to_hz // 10, -to_hz // 10)
        assert (out - tones(to_hz))[:, inside].abs().max() < 1e-3, "no delay, no drift"


class TestLoudness:
    @pytest.mark.parametrize("rate_hz", [16000, 44100, 48000])
    @pytest.mark.parametrize("gain", [0.02, 1.0, 6.0])
    def test_agrees_with_pyloudnorm(self, rate_hz: int, gain: float) -> None:
        sound = speechlike(rate_hz, 8.0) * np.float32(gain)
        found = integrated_loudness(torch.from_numpy(sound), rate_hz)
        assert found is not None
        # "DeMan" is pyloudnorm's filter that keeps to the standard; its default approximates it (0.15 LU at 16 kHz).
        exact = pyloudnorm.Meter(rate_hz, filter_class="DeMan").integrated_loudness(sound.astype(np.float64))
        usual = pyloudnorm.Meter(rate_hz).integrated_loudness(sound.astype(np.float64))
        assert found == pytest.approx(exact, abs=0.1)
        assert found == pytest.approx(usual, abs=0.25)

    def test_reaches_the_target_with_a_plain_gain(self) -> None:
        sound = torch.from_numpy(speechlike(16000, 6.0)) * 0.05
        out, notice = normalize_loudness(sound, 16000, -23.0)
        assert notice is None
        meter = pyloudnorm.Meter(16000, filter_class="DeMan")
        assert meter.integrated_loudness(out.double().numpy()) == pytest.approx(-23.0, abs=0.1)
        gain = float(out.abs().max() / sound.abs().max())
        assert torch.allclose(out, sound * gain, rtol=1e-5, atol=0)

    def test_no_limiter(self) -> None:
        out, notice = normalize_loudness(torch.from_numpy(speechlike(16000, 4.0)), 16000, 0.0)
        assert notice is None
        assert out.abs().max() > 1.0

    @pytest.mark.parametrize(
        ("samples", "word"),
        [(noise(1, 6399)[0], "too short"), (torch.zeros(32000), "silent"), (noise(1, 32000, level=1e-5)[0], "silent")],
    )
    def test_unchanged_where_loudness_is_not_defined(self, samples: torch.Tensor, word: str) -> None:
        out, notice = normalize_loudness(samples, 16000)
        assert out is samples
        assert notice is not None
        assert word in notice

    def test_one_block_is_enough(self) -> None:
        out, notice = normalize_loudness(noise(1, 6400)[0], 16000)
        assert notice is None
        again = integrated_loudness(out, 16000)
        assert again == pytest.approx(-23.0, abs=0.05)

    @pytest.mark.parametrize("name", ["it's a, [folder]; x=1", "Jürgen"])
    def test_any_temporary_folder(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        assert integrated_loudness(noise(1, 16000)[0], 16000) is not None
        assert list(folder.iterdir()) == [], "nothing is left behind"

    def test_nowhere_to_write(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(LongTalkError, match="TMPDIR"):
            integrated_loudness(noise(1, 16000)[0], 16000)


def track(
    samples: int, rate_hz: int, *, channels: int = 1, seed: int = 0, name: str = "a", level: float = 0.1
) -> Track:
    return Track(noise(channels, samples, seed, level), rate_hz, name)


class TestArrangeOne:
    def test_one_track_is_untouched(self) -> None:
        only = track(70001, 44100, channels=6)
        arrangement = arrange([only], "add")
        assert arrangement.tracks == (only,)
        assert arrangement.mix is only
        assert arrangement.notes == ()

    def test_beyond_full_scale_is_noted_and_kept(self) -> None:
        only = track(16000, 16000, level=2.0)
        arrangement = arrange([only])
        assert arrangement.mix is only
        assert "above full scale" in arrangement.notes[0]
        assert f"{only.peak:.2f}" in arrangement.notes[0]

    def test_a_start_puts_silence_before_it(self) -> None:
        only = track(16001, 44100, channels=2, name="anna")
        arrangement = arrange([only], "para", [0.3])
        arranged = arrangement.tracks[0]
        assert arrangement.mix is arranged
        assert arranged.sample_rate == 44100
        assert torch.count_nonzero(arranged.waveform[:, :13230]) == 0
        assert torch.equal(arranged.waveform[:, 13230:], only.waveform)
        assert arrangement.notes == ("anna speaks from 0.30 to 0.66 s",)


class TestArrangeSeveral:
    def test_para_pads_and_sums(self) -> None:
        long, short = track(32000, 16000, seed=1, name="anna"), track(20000, 16000, seed=2, name="ben")
        arrangement = arrange([long, short], TrackMode.PARA)
        padded = arrangement.tracks[1].waveform
        assert arrangement.tracks[0].waveform is long.waveform
        assert torch.equal(padded[:, :20000], short.waveform)
        assert torch.count_nonzero(padded[:, 20000:]) == 0
        assert torch.equal(arrangement.mix.waveform, long.waveform + padded)
        assert arrangement.notes == ("ben padded with 0.75 s of silence to 2.00 s",)
        assert [t.name for t in arrangement.tracks] == ["anna", "ben"]

    def test_add_is_one_after_the_other(self) -> None:
        tracks = [track(n, 16000, seed=n, name=f"s{n}") for n in (16000, 20001, 5000)]
        arrangement = arrange(tracks, "add")
        total = 16000 + 20001 + 5000
        assert torch.equal(arrangement.mix.waveform, torch.cat([t.waveform for t in tracks], dim=1))
        assert torch.equal(sum(t.waveform for t in arrangement.tracks), arrangement.mix.waveform)
        assert [t.samples for t in arrangement.tracks] == [total] * 3
        assert "s20001 speaks from 1.00 to 2.25 s" in arrangement.notes

    def test_para_starts_count_from_the_start_of_the_video(self) -> None:
        tracks = [track(n, 16000, seed=n, name=f"s{n}") for n in (16000, 8000, 4000)]
        arrangement = arrange(tracks, "para", [0.25, 0.0, 2.0])
        expected = torch.zeros(3, 36000)
        for row, given_track, start in zip(expected, tracks, (4000, 0, 32000), strict=True):
            row[start : start + given_track.samples] = given_track.waveform[0]
        assert torch.equal(torch.cat([t.waveform for t in arrangement.tracks]), expected)
        assert torch.allclose(arrangement.mix.waveform[0], expected.sum(dim=0), atol=1e-7)
        assert arrangement.notes == (
            "s16000 speaks from 0.25 to 1.25 s",
            "s8000 padded with 1.75 s of silence to 2.25 s",
            "s4000 speaks from 2.00 to 2.25 s",
        )

    def test_add_starts_are_pauses(self) -> None:
        tracks = [track(n, 16000, seed=n, name=f"s{n}") for n in (16000, 8000, 4000)]
        arrangement = arrange(tracks, "add", [0.5, 0.25, 0.0])
        silence = torch.zeros(1, 8000), torch.zeros(1, 4000)
        first, second, third = (t.waveform for t in tracks)
        assert torch.equal(arrangement.mix.waveform, torch.cat([silence[0], first, silence[1], second, third], dim=1))
        assert torch.equal(sum(t.waveform for t in arrangement.tracks), arrangement.mix.waveform)
        assert arrangement.notes == (
            "s16000 speaks from 0.50 to 1.50 s",
            "s8000 speaks from 1.75 to 2.25 s",
            "s4000 speaks from 2.25 to 2.50 s",
        )

    @pytest.mark.parametrize("start_s", [0.3, 0.1 + 0.2, 0.29999999999999993])
    def test_a_start_is_the_number_that_was_typed(self, start_s: float) -> None:
        """0.3 as a binary fraction is a little less: rounded down it would be sample 4799."""
        arrangement = arrange([track(16000, 16000, name="a"), track(8000, 16000, name="b")], "para", [0.0, start_s])
        assert int(arrangement.tracks[1].waveform[0].nonzero()[0]) == 4800

    def test_starts_of_zero_change_nothing(self) -> None:
        tracks = [track(32001, 44100, seed=1, name="a"), track(20000, 16000, seed=2, name="b")]
        for mode in TrackMode:
            plain, zeros = arrange(tracks, mode), arrange(tracks, mode, [0.0, 0.0])
            assert zeros.notes == plain.notes
            for one, two in zip((*zeros.tracks, zeros.mix), (*plain.tracks, plain.mix), strict=True):
                assert torch.equal(one.waveform, two.waveform)

    def test_mix_has_the_highest_rate_and_the_most_channels(self) -> None:
        low, high = track(16000, 16000, seed=1, name="low"), track(48000, 48000, channels=2, seed=2, name="high")
        arrangement = arrange([low, high])
        assert [t.sample_rate for t in arrangement.tracks] == [16000, 48000]
        assert [t.channels for t in arrangement.tracks] == [1, 2]
        raised = torchaudio.functional.resample(low.waveform, 16000, 48000)
        assert arrangement.mix.sample_rate == 48000
        assert torch.allclose(arrangement.mix.waveform, high.waveform + raised, atol=1e-7)
        assert arrangement.notes == (
            "mix: low resampled from 16000 to 48000 Hz with torchaudio",
            "mix: low copied to all 2 channels",
        )

    def test_stereo_goes_to_the_front_of_more_channels(self) -> None:
        stereo, surround = track(16000, 16000, channels=2, seed=1, name="s"), track(16000, 16000, channels=6, name="x")
        arrangement = arrange([stereo, surround])
        assert torch.equal(arrangement.mix.waveform[:2], stereo.waveform + surround.waveform[:2])
        assert torch.equal(arrangement.mix.waveform[2:], surround.waveform[2:])
        assert any("first 2 of 6" in note for note in arrangement.notes)

    @pytest.mark.parametrize("mode", list(TrackMode))
    def test_scaled_down_only_beyond_one(self, mode: TrackMode) -> None:
        loud = Track(torch.full((1, 16000), 0.75), 16000, "a"), Track(torch.full((1, 16000), 0.5), 16000, "b")
        arrangement = arrange(loud, mode)
        if mode is TrackMode.PARA:
            assert arrangement.mix.peak == pytest.approx(1.0, abs=1e-6)
            assert any("scaled down by 1.9 dB, its peak was 1.25" in note for note in arrangement.notes)
        else:
            assert arrangement.mix.peak == 0.75
            assert not any("scaled" in note for note in arrangement.notes)

    def test_a_silent_speaker_among_others(self) -> None:
        arrangement = arrange([track(16000, 16000, name="a"), Track(torch.zeros(1, 8000), 16000, "b")])
        assert arrangement.notes[0] == "b is silent throughout (peak 0)"
        assert arrangement.tracks[1].samples == 16000

    def test_equal_names_are_numbered(self) -> None:
        arrangement = arrange([track(16000, 16000, name="audio"), track(8000, 16000, name="audio")])
        assert arrangement.notes == ("audio 2 padded with 0.50 s of silence to 1.00 s",)

    @QUICK
    @given(
        sizes=st.lists(
            st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000, 44101, 16001, 7999]).flatmap(
                lambda rate_hz: st.tuples(st.just(rate_hz), st.integers(-(-rate_hz // 25), rate_hz // 2))
            ),
            min_size=2,
            max_size=4,
        ),
        channels=st.lists(st.integers(1, 3), min_size=4, max_size=4),
        mode=st.sampled_from(TrackMode),
        hundredths=st.lists(st.sampled_from([0, 0, 1, 4, 29, 30, 57, 58, 113]), min_size=4, max_size=4),
    )
    def test_one_timeline_for_all(
        self, sizes: list[tuple[int, int]], channels: list[int], mode: TrackMode, hundredths: list[int]
    ) -> None:
        tracks = [
            track(samples, rate_hz, channels=channels[i], seed=i, name=f"speaker {i}", level=0.05)
            for i, (rate_hz, samples) in enumerate(sizes)
        ]
        lengths_s = [Fraction(samples, rate_hz) for rate_hz, samples in sizes]
        starts_s = [Fraction(each, 100) for each in hundredths[: len(sizes)]]
        if mode is TrackMode.ADD:
            starts_s = [sum(starts_s[: i + 1]) + sum(lengths_s[:i]) for i in range(len(sizes))]
        duration_s = max(map(sum, zip(starts_s, lengths_s, strict=True)))
        frames = math.ceil(duration_s * 25)
        arrangement = arrange(tracks, mode, [each / 100 for each in hundredths[: len(sizes)]])
        for given_track, arranged, start_s in zip(tracks, arrangement.tracks, starts_s, strict=True):
            assert (arranged.sample_rate, arranged.channels) == (given_track.sample_rate, given_track.channels)
            rate_hz = arranged.sample_rate
            assert abs(arranged.samples - duration_s * rate_hz) < 1
            assert frames_for_samples(arranged.samples, rate_hz) == frames
            start = math.floor(start_s * rate_hz)
            end = start + given_track.samples
            assert torch.equal(arranged.waveform[:, start:end], given_track.waveform), "every sample, where it belongs"
            assert torch.count_nonzero(arranged.waveform[:, :start]) == 0
            assert torch.count_nonzero(arranged.waveform[:, end:]) == 0
        mix = arrangement.mix
        assert (mix.sample_rate, mix.channels) == (max(r for r, _ in sizes), max(channels[: len(sizes)]))
        assert frames_for_samples(mix.samples, mix.sample_rate) == frames
        assert 0 < mix.peak <= 1.0


class TestArrangeRefuses:
    def test_silence(self) -> None:
        silent = [Track(torch.zeros(2, 72000), 16000, "anna"), Track(torch.full((1, 16000), 5e-5), 16000, "ben")]
        with pytest.raises(LongTalkError, match=r"anna 4\.50 s with peak 0, ben 1\.00 s with peak 5e-05"):
            arrange(silent)

    def test_no_track_and_no_such_mode(self) -> None:
        with pytest.raises(LongTalkError, match="at least one track"):
            arrange([])
        with pytest.raises(LongTalkError, match="'para' or 'add'"):
            arrange([track(16000, 16000)], "solo")

    @pytest.mark.parametrize("start_s", [-0.01, 3600.01, math.nan, math.inf, "1", None, True, 10**400])
    def test_a_start_out_of_range(self, start_s: object) -> None:
        tracks = [track(16000, 16000, name="anna"), track(16000, 16000, name="ben")]
        with pytest.raises(LongTalkError, match="start of ben: expected a number from 0 to 3600"):
            arrange(tracks, "para", [0.0, start_s])

    def test_as_many_starts_as_tracks(self) -> None:
        with pytest.raises(LongTalkError, match="one per track, 1"):
            arrange([track(16000, 16000)], "para", [0.0, 1.0])
