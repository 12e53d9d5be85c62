"""``prepare`` and ``plan``: what they write and say, and what they say about files that are no sound."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import wave
from collections.abc import Callable
from fractions import Fraction
from math import ceil
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from run_commands import command
from sound_files import drums, ffmpeg, read, voice, write, write_video

from longtalk.audio.prepare.prepare import prepare_track
from longtalk.audio.prepare.stages import stages_from
from longtalk.audio.reading.source import FileSource
from longtalk.audio.reading.track import Track, mono
from longtalk.audio.tracks import arrange
from longtalk.infinitetalk.cli import terminal
from longtalk.infinitetalk.cli.main import main
from longtalk.infinitetalk.draw.plan_picture import draw_plan
from longtalk.infinitetalk.plan.ltx_windows import geometry, plan_ltx
from longtalk.infinitetalk.plan.plan_text import plan_report
from longtalk.infinitetalk.plan.schedule import resolve_schedule, schedule_report, windows_of
from longtalk.infinitetalk.plan.schedule_text import parse_schedule
from longtalk.infinitetalk.plan.windows import plan_windows


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """Three seconds of two channels at 44.1 kHz."""
    return write(tmp_path / "talk.wav", drums(44100, 3.0), 44100, "-c:a", "pcm_f32le")


def track_of(path: Path) -> Track:
    source = FileSource(path)
    return Track(torch.from_numpy(np.concatenate(list(source.blocks()), axis=1).copy()), source.rate_hz, source.name)


class TestPrepare:
    @pytest.mark.parametrize(
        ("name", "options", "codec", "step"),
        [
            ("a.wav", [], "pcm_s24le", 2**-23),
            ("a.WAV", ["--bits", 16], "pcm_s16le", 2**-15),
            ("a.wav", ["--bits", 32], "pcm_f32le", 0),
            ("a.flac", [], "flac", 2**-23),
            ("a.flac", ["--bits", 16], "flac", 2**-15),
        ],
    )
    def test_the_file_holds_what_the_node_gives(
        self, talk: Path, tmp_path: Path, name: str, options: list[object], codec: str, step: float
    ) -> None:
        target = tmp_path / "out" / name
        code, said, errors = command("prepare", talk, target, *options)
        meant, _, done = prepare_track(track_of(talk), stages_from("LTX", {}))
        assert (code, errors) == (0, "")
        assert said.splitlines()[:-1] == done.report().splitlines()
        assert said.splitlines()[-1].startswith(f"written: {target}, ")
        with av.open(str(target)) as container:
            context = container.streams.audio[0].codec_context
            assert (context.name, context.sample_rate, context.layout.nb_channels) == (codec, 44100, 2)
        heard = read(target, 2)
        assert heard.shape == meant.waveform.shape
        assert np.abs(heard - meant.waveform.numpy()).max() <= step
        assert [path.name for path in target.parent.iterdir()] == [name]

    def test_aac(self, talk: Path, tmp_path: Path) -> None:
        target = tmp_path / "a.m4a"
        assert command("prepare", talk, target, "--preset", "InfiniteTalk")[0] == 0
        heard = read(target, 2)
        assert heard.shape[1] == 3 * 44100
        with av.open(str(target)) as container:
            assert container.streams.audio[0].codec_context.name == "aac"

    @pytest.mark.parametrize("channels", [1, 8, 12])
    def test_any_number_of_channels(self, tmp_path: Path, channels: int) -> None:
        source = write(tmp_path / "in.wav", voice(48000, 1.0, channels), 48000, "-c:a", "pcm_f32le")
        target = tmp_path / "out.wav"
        assert command("prepare", source, target, "--preset", "off", "--eq-3000-hz", -6, "--bits", 32)[0] == 0
        assert FileSource(target).channels == channels
        assert read(target, channels).shape == (channels, 48000)
        code, _, errors = command("prepare", source, tmp_path / "out.flac", "--preset", "off")
        assert (code, "8 channels are mixed down to 5.1" in errors) == (int(channels == 12), channels == 8)
        assert ("at most 8 channels in .flac, got 12" in errors) == (channels == 12)

    def test_settings(self, talk: Path, tmp_path: Path) -> None:
        set_so = ["--high-pass-hz", "off", "--eq-200-hz", "-1.5", "--loudness-lufs", "-20", "--ceiling-db", "-3"]
        trims = ["--start", "0:00.5", "--end", "2.5"]
        code, said, _ = command("prepare", talk, tmp_path / "a.wav", *set_so, *trims, "--json")
        found = json.loads(said)
        assert code == 0
        assert found["samples"] == 88200
        assert found["after"]["integrated_lufs"] == pytest.approx(-20, abs=0.3)
        assert found["after"]["true_peak_db"] <= -3
        assert "highpass" not in found["ffmpeg_af"]
        assert "equalizer=f=200:t=q:w=1:g=-1.5" in found["ffmpeg_af"]
        assert found["ffmpeg_af"].startswith("atrim=start_sample=22050:end_sample=110250")
        assert found["bytes"] == (tmp_path / "a.wav").stat().st_size

    def test_a_silent_sound_has_no_levels_in_json(self, tmp_path: Path) -> None:
        source = write(tmp_path / "silence.wav", np.zeros((1, 16000), np.float32), 16000)
        found = json.loads(command("prepare", source, tmp_path / "a.wav", "--json")[1])
        assert found["before"] == {"integrated_lufs": None, "range_lu": 0.0, "true_peak_db": None}
        assert "silent (nothing above -70 LUFS): level unchanged" in found["notes"]

    def test_a_video(self, talk: Path, tmp_path: Path) -> None:
        video = write_video(tmp_path / "talk.mkv", talk, seconds=3.0)
        assert command("prepare", video, tmp_path / "a.wav")[0] == 0
        assert command("prepare", talk, tmp_path / "b.wav")[0] == 0
        assert np.array_equal(read(tmp_path / "a.wav", 2), read(tmp_path / "b.wav", 2))

    def test_a_file_is_replaced_only_with_force(self, talk: Path, tmp_path: Path) -> None:
        target = tmp_path / "a.wav"
        target.write_text("mine")
        code, said, errors = command("prepare", talk, target)
        assert (code, said) == (1, "")
        assert errors == (
            f"error: file {target}: expected a new file, got one that is there already. "
            "Name another file, or add --force to replace it. [LT-SETTING]\n"
        )
        assert target.read_text() == "mine"
        assert command("prepare", talk, target, "--force")[0] == 0
        assert read(target, 2).shape == (2, 3 * 44100)

    def test_a_file_may_replace_itself(self, talk: Path, tmp_path: Path) -> None:
        meant, _, _ = prepare_track(track_of(talk), stages_from("LTX", {}))
        assert command("prepare", talk, talk, "--force", "--bits", 32)[0] == 0
        assert np.array_equal(read(talk, 2), meant.waveform.numpy())

    def test_an_error_on_the_way_leaves_everything_as_it_was(self, tmp_path: Path) -> None:
        sound = voice(16000, 5.0)
        sound[0, 60000] = np.nan
        source = write(tmp_path / "in.wav", sound, 16000, "-c:a", "pcm_f32le")
        target = tmp_path / "a.wav"
        target.write_text("mine")
        code, _, errors = command("prepare", source, target, "--force")
        assert (code, "the first at 3.750 s" in errors) == (1, True)
        assert target.read_text() == "mine"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "in.wav"]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["a.mp3"], "expected a name that ends in .wav, .flac or .m4a, got a.mp3"),
            (["a.flac", "--bits", "32"], "bits: expected 16 or 24 for .flac, got 32"),
            (["a.wav", "--bits", "20"], "bits: expected 16 or 24 or 32 for .wav, got 20"),
            (["a.wav", "--preset", "loud"], "preset: expected one of LTX, InfiniteTalk, off, got 'loud'"),
            (["a.wav", "--range-lu", "wide"], "range_lu: expected 'as preset', 'off' or a number from 1 to 50 (LU)"),
            (["a.wav", "--start", "9"], "start: expected a time before the end of talk.wav (3.00 s), got 9 s"),
            (["a.wav", "--start", "2", "--end", "1"], "end: expected a time after the start (2 s)"),
        ],
    )
    def test_what_cannot_be_done(self, talk: Path, tmp_path: Path, options: list[str], words: str) -> None:
        code, said, errors = command("prepare", talk, tmp_path / options[0], *options[1:])
        assert (code, said) == (1, "")
        assert errors.startswith("error: ")
        assert words in errors
        assert errors.count("\n") == 1
        assert [path.name for path in tmp_path.iterdir()] == ["talk.wav"]

    def test_what_the_last_round_clipped(self, talk: Path, tmp_path: Path) -> None:
        """The equaliser alone passes full scale here, but the limiter works behind it."""
        assert "clipped" not in command("prepare", talk, tmp_path / "a.wav")[2]
        set_so = ["--preset", "off", "--loudness-lufs", "-6"]
        code, said, errors = command("prepare", talk, tmp_path / "b.wav", *set_so)
        assert code == 0
        assert "above full scale, where most files clip" in said
        assert re.fullmatch(r"note: sound: samples beyond full scale are clipped, the first at 0.\d+ s .*\n", errors)
        assert command("prepare", talk, tmp_path / "c.wav", *set_so, "--bits", 32)[2] == ""
        found = json.loads(command("prepare", talk, tmp_path / "d.wav", *set_so, "--json")[1])
        assert "clipped" in found["notes"][-1]

    def test_rates_that_aac_does_not_know(self, tmp_path: Path) -> None:
        source = write(tmp_path / "in.wav", voice(16000, 1.0), 16000)
        errors = command("prepare", source, tmp_path / "a.m4a")[2]
        assert errors == "note: sound: 16000 Hz is written as 48000 Hz, which aac carries\n"

    def test_warnings_are_notes(self, talk: Path, tmp_path: Path) -> None:
        cut = write(tmp_path / "cut.mp3", drums(44100, 3.0), 44100)
        cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
        code, _, errors = command("plan", cut)
        assert code == 0
        assert errors.startswith("note: cut.mp3 ends at 1.")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestProgress:
    def test_on_a_terminal(self, talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(terminal, "_QUIET_S", 0.0)
        monkeypatch.setattr(terminal, "_EVERY_S", 0.0)
        errors = Terminal()
        monkeypatch.setattr(sys, "stderr", errors)
        assert main(["prepare", str(talk), str(tmp_path / "a.wav")]) == 0
        text = errors.getvalue()
        assert re.search(r"\rtalk.wav: 1 of 3 s \(3\d%\) *\r", text)
        assert "\rtalk.wav: 3 of 3 s (100%), round 2" in text
        assert text.endswith("\r")
        assert text.rstrip("\r").rpartition("\r")[2].strip() == "", "the line is wiped"

    def test_nowhere_else(self, talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(terminal, "_QUIET_S", 0.0)
        assert command("prepare", talk, tmp_path / "a.wav")[2] == ""


class TestPlan:
    def test_one_speaker(self, talk: Path) -> None:
        code, said, errors = command("plan", talk, "--window-frames", 33, "--motion-frames", 5)
        assert (code, errors) == (0, "")
        assert said == plan_report(plan_windows(75, 33, 5, "exact")) + "\n"

    def test_ltx(self, talk: Path) -> None:
        settings = ["--ltx", "--window-seconds", 1.5, "--overlap-seconds", 0.4, "--fps", 24]
        code, said, _ = command("plan", talk, *settings)
        assert code == 0
        assert said == plan_report(plan_ltx(72, geometry(1.5, 0.4, 24))) + "\n"
        code, _, errors = command("plan", talk, talk, "--ltx")
        assert (code, "one file with --ltx, which hears one sound, got 2" in errors) == (1, True)

    @pytest.mark.parametrize("mode", ["para", "add"])
    @pytest.mark.parametrize("starts", [None, (0.0, 1.75)])
    def test_several_speakers_as_the_nodes_lay_them_out(
        self, tmp_path: Path, mode: str, starts: tuple[float, ...] | None
    ) -> None:
        files = [
            write(tmp_path / "one.wav", voice(44100, 2.013, 2), 44100),
            write(tmp_path / "two.flac", voice(16000, 3.337), 16000),
        ]
        arranged = arrange([track_of(path) for path in files], mode, starts)
        frames = max(ceil(Fraction(track.samples * 25, track.sample_rate)) for track in arranged.tracks)
        options = [] if starts is None else ["--starts", ",".join(map(str, starts))]
        found = json.loads(command("plan", *files, "--speakers", mode, *options, "--json")[1])
        assert found["frames"] == frames
        assert [entry["duration_s"] for entry in found["speech"]] == pytest.approx([2.013, 3.337], abs=1e-3)
        second = (starts or (0, 0))[1] + (2.013 if mode == "add" else 0)
        assert [entry["start_s"] for entry in found["speech"]] == pytest.approx([0, second], abs=1e-3)

    def test_json(self, talk: Path) -> None:
        found = json.loads(command("plan", talk, "--mode", "aligned_up", "--json")[1])
        plan = plan_windows(75, 81, 9, "aligned_up")
        assert (found["frames"], found["mode"], found["fps"]) == (plan.frames, "aligned_up", 25)
        assert found["windows"] == [{"start": 0, "length": 81, "pinned": 0, "cut": 6, "output": [0, 75]}]
        assert (found["prompts"], found["png"]) == (None, None)

    def test_a_schedule(self, talk: Path, tmp_path: Path) -> None:
        text = "0:00-0:02: a woman, calm\n0:02: a woman, laughing"
        schedule = tmp_path / "prompts.txt"
        schedule.write_text(text, encoding="utf-8-sig")
        plan = plan_windows(75, 33, 5, "exact")
        meant = schedule_report(resolve_schedule(parse_schedule(text), *windows_of(plan)))
        _, said, _ = command("plan", talk, "--schedule", schedule, "--window-frames", 33, "--motion-frames", 5)
        assert said == f"{plan_report(plan)}\n\n{meant}\n"
        schedule.write_bytes(b"0: a woman, caf\xe9")
        assert "expected text in UTF-8" in command("plan", talk, "--schedule", schedule)[2]
        assert command("plan", talk, "--schedule", tmp_path / "none.txt")[0] == 1

    def test_the_picture(self, talk: Path, tmp_path: Path) -> None:
        picture = tmp_path / "plan.png"
        code, said, _ = command("plan", talk, "--png", picture, "--window-frames", 33)
        assert code == 0
        assert said.endswith(f"drawn: {picture}\n")
        plan = plan_windows(75, 33, 9, "exact")
        meant = draw_plan(plan, [mono(track_of(talk), 8000).numpy()], 8000)
        found = np.asarray(Image.open(picture))
        assert found.shape == meant.shape
        # The same but for the resampler, which moves an edge of the wave by a pixel here and there.
        assert (found != meant).any(axis=2).mean() < 0.01
        code, _, errors = command("plan", talk, "--png", picture)
        assert (code, "one that is there already" in errors) == (1, True)
        assert command("plan", talk, "--png", picture, "--force")[0] == 0

    def test_two_rows_in_the_picture(self, talk: Path, tmp_path: Path) -> None:
        sizes = {}
        for number in (1, 2):
            picture = tmp_path / f"{number}.png"
            assert command("plan", *[talk] * number, "--speakers", "add", "--png", picture)[0] == 0
            sizes[number] = Image.open(picture).height
        assert sizes[2] > sizes[1]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--window-frames", "80"], "window frames: expected 4n+1"),
            (["--mode", "loose"], "loose"),
            (["--speakers", "both"], "speakers: expected one of para, add, got 'both'"),
            (["--starts", "1,2"], "starts of the tracks: expected one per track, 1, got 2"),
            (["--starts", "-1"], "start of talk.wav"),
            (["--ltx", "--fps", "0"], "fps"),
            (["--ltx", "--overlap-seconds", "30"], "overlap_seconds"),
        ],
    )
    def test_what_cannot_be_planned(self, talk: Path, options: list[str], words: str) -> None:
        code, said, errors = command("plan", talk, *options)
        assert (code, said) == (1, "")
        assert errors.startswith("error: ")
        assert words in errors
        assert errors.count("\n") == 1

    def test_too_many_speakers(self, talk: Path) -> None:
        assert "expected 1 to 4 files, one per speaker, got 5" in command("plan", *[talk] * 5)[2]


def empty(path: Path) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44100)
    return path


def damaged(path: Path) -> Path:
    write(path, voice(44100, 6.0, 2), 44100)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 12000] = bytes(12000)
    path.write_bytes(data)
    return path


def with_nan(path: Path) -> Path:
    sound = voice(16000, 2.0)
    sound[0, 8000] = np.nan
    return write(path, sound, 16000, "-c:a", "pcm_f32le")


BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no such file": ("none.wav", lambda path: None, "got none of this name"),
    "a folder": ("folder.wav", lambda path: path.mkdir(), "got a folder"),
    "no sound at all": ("text.wav", lambda path: path.write_text("words " * 999), "sound or video file that ffmpeg"),
    "an empty file": ("zero.wav", lambda path: path.touch(), "got an empty file"),
    "a video without sound": ("silent.mp4", write_video, "one without: it holds video only"),
    "an empty track": ("empty.wav", empty, "an empty track (of 2 channels at 44100 Hz)"),
    "one sample": ("one.wav", lambda path: write(path, np.ones((1, 1)), 16000), "at least 0.04 s of sound"),
    "NaN": ("nan.wav", with_nan, "1 NaN or infinite values, the first at 0.500 s"),
    "another scale": (
        "big.wav",
        lambda path: write(path, voice(16000, 1.0, level=30000), 16000, "-c:a", "pcm_f32le"),
        "a peak of 30000",
    ),
    "damage": ("damaged.m4a", damaged, "got damage at "),
}
GOOD: dict[str, tuple[str, Callable[[Path], object]]] = {
    "8 channels": ("a.wav", lambda path: write(path, voice(16000, 1.0, 8), 16000)),
    "8 bits": ("a.wav", lambda path: write(path, voice(16000, 1.0), 16000, "-c:a", "pcm_u8")),
    "24 bits": ("a.wav", lambda path: write(path, voice(16000, 1.0), 16000, "-c:a", "pcm_s24le")),
    "192 kHz": ("a.flac", lambda path: write(path, voice(192000, 1.0), 192000)),
    "beyond full scale": (
        "a.wav",
        lambda path: write(path, voice(16000, 1.0, level=5.0), 16000, "-c:a", "pcm_f32le"),
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_sound_has_its_words(tmp_path: Path, name: str) -> None:
    file, make, words = BAD[name]
    make(tmp_path / file)
    for arguments in (["prepare", tmp_path / file, tmp_path / "out.flac"], ["plan", tmp_path / file]):
        code, said, errors = command(*arguments)
        assert (code, said) == (1, "")
        assert errors.startswith("error: ")
        assert words in errors
        assert errors.count("\n") == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("out")]


@pytest.mark.parametrize("name", GOOD)
def test_odd_sound_is_taken(tmp_path: Path, name: str) -> None:
    file, make = GOOD[name]
    make(tmp_path / file)
    code, said, _ = command("prepare", tmp_path / file, tmp_path / "out.wav", "--json")
    assert code == 0
    found = json.loads(said)
    assert found["after"]["integrated_lufs"] == pytest.approx(-16, abs=0.3)
    assert found["after"]["true_peak_db"] <= -2
    code, said, _ = command("plan", tmp_path / file)
    assert (code, said.splitlines()[0]) == (0, "25 frames, 1.00 s at 25 fps, in 1 window")


def test_the_help_needs_no_torch() -> None:
    code = (
        "import sys; from longtalk.infinitetalk.cli.main import main\n"
        "for words in (['--help'], ['prepare', '--help'], ['plan', '--help']):\n"
        "    try: main(words)\n"
        "    except SystemExit as left: assert left.code == 0\n"
        "assert not {'torch', 'comfy', 'folder_paths'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd="/", capture_output=True, text=True)
    for words in ("prepare", "plan", "runs", "--high-pass-hz", "--ltx"):
        assert words in done.stdout


def test_ffmpeg_gives_the_same_from_the_reports_text(talk: Path, tmp_path: Path) -> None:
    """As a user would do it: the text copied behind -af."""
    _, said, _ = command("prepare", talk, tmp_path / "ours.wav", "--bits", 16, "--json")
    ffmpeg("-i", talk, "-af", json.loads(said)["ffmpeg_af"], "-c:a", "pcm_s16le", tmp_path / "theirs.wav")
    assert np.abs(read(tmp_path / "ours.wav", 2) - read(tmp_path / "theirs.wav", 2)).max() <= 2**-15
