"""``runs export`` and ``runs delete``: what they leave behind, and what they leave alone."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import av
import pytest
from made_runs import NAME, damage, video_of
from run_commands import OTHER, Run, apply, call, held, make_talk, size, states

from longtalk.infinitetalk.run.store.chains import current_chain
from longtalk.infinitetalk.run.store.folder import RunFolder
from longtalk.infinitetalk.run.store.manifest import FORMAT
from longtalk.infinitetalk.run.video.formats import VideoFormat

# export


def decoded(path: Path) -> tuple[int, float]:
    """Frames, and seconds of sound."""
    with av.open(str(path)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    with av.open(str(path)) as container:
        sound = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    return frames, sound


def test_export_of_a_finished_run(runs: Run, finished: RunFolder, tmp_path: Path) -> None:
    target = tmp_path / "new" / "out.mp4"
    code, out, errors = runs("export", NAME, "--to", target)
    assert (code, errors) == (0, "")
    assert out == f"exported the finished video, {target.stat().st_size / 1e6:.1f} MB: {target}\n"
    assert target.read_bytes() == video_of(finished).read_bytes()
    frames, sound = decoded(target)
    assert frames == 60
    assert sound == pytest.approx(2.4, abs=0.03)
    before = target.read_bytes()
    assert runs("export", OTHER, "--to", target)[::2] == (
        1,
        f"error: file {target}: expected a new file, got one that is there already. "
        "Name another file, or add --force to replace it. [LT-SETTING]\n",
    )
    assert target.read_bytes() == before
    assert runs("export", OTHER, "--to", target, "--force")[0] == 0
    assert decoded(target)[0] == 37


@pytest.mark.parametrize("codec", ["h264", "h265", "ffv1", "prores"])
def test_export_of_an_unfinished_run(tmp_path: Path, codec: str) -> None:
    folder, _, _ = make_talk(tmp_path / "longtalk", windows=3, video=VideoFormat(codec))
    target = tmp_path / f"out{folder.suffix}"
    code, out, errors = call(tmp_path, "export", NAME, "--to", target)
    assert (code, errors) == (0, "")
    assert out == f"exported windows 1 to 3 of 4, 49 frames, {target.stat().st_size / 1e6:.1f} MB: {target}\n"
    frames, sound = decoded(target)
    assert frames == 49
    assert sound == pytest.approx(49 / 25, abs=0.03)
    wrong = tmp_path / "out.avi"
    assert call(tmp_path, "export", NAME, "--to", wrong)[2] == (
        f"error: file {wrong}: expected a name that ends in {folder.suffix}, as {codec} needs, got out.avi. "
        "Change the name's end; nothing is encoded again. [LT-SETTING]\n"
    )


def test_export_leaves_out_what_is_damaged(runs: Run, finished: RunFolder, tmp_path: Path) -> None:
    video = video_of(finished)
    damage(video)
    chain = current_chain(finished)
    damage(finished.segment_path(3, chain[2].key))
    damage(finished.sound_path)
    target = tmp_path / "out.mp4"
    code, out, errors = runs("export", NAME, "--to", target)
    assert code == 0
    assert out.startswith("exported windows 1 to 2 of 4, 37 frames, ")
    assert errors.splitlines() == [
        f"note: the video is damaged ({video.name} is not as it was written), so the windows are joined again",
        f"note: window 3 and what follows are left out: window_00003_{chain[2].key}.mp4 is not as it was written",
        "note: the sound is left out: sound.mp4 is not as it was written",
    ]
    damage(finished.segment_path(1, chain[0].key))
    assert (
        "expected a finished video, or at least one finished window, got window 1 and"
        in runs("export", NAME, "--to", target, "--force")[2]
    )
    damage(finished.manifest_path)
    assert (
        "expected a finished video, or a manifest that tells how to join its windows, got damaged manifest."
        in runs("export", NAME, "--to", target, "--force")[2]
    )


def test_export_never_writes_into_the_runs(runs: Run, finished: RunFolder, unfinished: RunFolder) -> None:
    before = video_of(finished).read_bytes()
    for target in (video_of(finished), finished.path.parent / "x.mp4", unfinished.path / ".." / "x.mp4"):
        code, _, errors = runs("export", OTHER, "--to", target, "--force")
        assert code == 1
        assert "expected a place outside the folder of all runs" in errors
    assert video_of(finished).read_bytes() == before


def test_a_run_that_is_being_made_can_be_exported(runs: Run, unfinished: RunFolder, tmp_path: Path) -> None:
    with held(unfinished):
        assert runs("export", OTHER, "--to", tmp_path / "out.mp4")[0] == 0
    assert decoded(tmp_path / "out.mp4")[0] == 37


def test_one_of_several_videos_is_exported(runs: Run, finished: RunFolder, tmp_path: Path) -> None:
    first = video_of(finished)
    make_talk(finished.path.parent, rerender="3:7", finish=True)
    again = video_of(finished)
    assert first != again
    target = tmp_path / "out.mp4"
    _, out, _ = runs("export", NAME, "--to", target)
    assert out.startswith(f"exported the finished video (of 2: {again.stem[5:]}), ")
    assert target.read_bytes() == again.read_bytes()
    assert runs("export", NAME, "--video", first.stem[5:13], "--to", target, "--force")[0] == 0
    assert target.read_bytes() == first.read_bytes()
    for digits, found in (("", "one of several of"), ("0123", "none of")):
        code, _, errors = runs("export", NAME, "--video", digits, "--to", target, "--force")
        assert code == 1
        assert f"got {found} {again.stem[5:]}, {first.stem[5:]}. Take the name from `runs inspect`." in errors
    assert "got a run without a video" in runs("export", OTHER, "--video", "1", "--to", target, "--force")[2]
    damage(first)
    code, _, errors = runs("export", NAME, "--video", first.stem[5:], "--to", target, "--force")
    assert code == 1
    assert f"got {first.name} is not as it was written" in errors
    assert runs("inspect", NAME, "--verify")[1].endswith(f"damaged: video: {first.name} is not as it was written\n")


# delete


def test_delete(runs: Run, output: Path, finished: RunFolder, unfinished: RunFolder) -> None:
    freed = size(finished)
    assert runs("delete", NAME, "--dry-run")[1].endswith(f"\nwould delete 1 run, {freed}; nothing is deleted\n")
    assert video_of(finished).exists()
    assert runs("delete", NAME, NAME, "--yes")[1].endswith(f"\ndeleted 1 run, {freed} freed\n")
    assert list(states(output)) == [OTHER]
    assert not finished.path.exists()
    assert runs("delete", "--finished", "--yes") == (0, "no runs to delete\n", "")
    assert runs("delete", OTHER, NAME, "--yes")[0] == 1
    assert unfinished.path.exists(), "one that is not there stops all of them"


@pytest.mark.parametrize(("flag", "left"), [("--finished", [OTHER]), ("--unfinished", [NAME]), ("--all", [])])
def test_delete_by_state(runs: Run, output: Path, flag: str, left: list[str]) -> None:
    foreign = output / "longtalk" / ("a" * 16)
    foreign.mkdir()
    (foreign / "holiday.jpg").write_bytes(b"not ours")
    (output / "longtalk" / "notes.txt").write_text("not ours either")
    code, _, errors = runs("delete", flag, "--yes")
    assert (code, errors) == (0, f"note: {'a' * 16} is left alone: not a run\n")
    assert [name for name in states(output) if name != "a" * 16] == left
    assert (foreign / "holiday.jpg").exists()
    assert (output / "longtalk" / "notes.txt").exists()
    assert (
        "expected a run that LongTalk made, got nothing in it is certainly from LongTalk."
        in runs("delete", "a" * 16, "--yes")[2]
    )


def test_delete_one_of_several_videos(runs: Run, finished: RunFolder, output: Path) -> None:
    first = video_of(finished)
    first.with_suffix(".txt").write_text("report")
    make_talk(finished.path.parent, rerender="3:7", finish=True)
    again = video_of(finished)
    others = {path.name for path in finished.path.iterdir() if path.stem != first.stem}
    freed = f"{sum(first.with_suffix(suffix).stat().st_size for suffix in ('.mp4', '.json', '.txt')) / 1e6:.1f} MB"
    code, out, _ = runs("delete", NAME, "--video", first.stem[5:], "--dry-run")
    assert (code, first.exists()) == (0, True)
    assert out.endswith(f": {first.stem[5:]}; nothing is deleted\n")
    assert runs("delete", NAME, "--video", first.stem[5:], "--video", first.stem[5:], "--yes") == (
        0, f"deleted 1 video of run {NAME}, {freed} freed\n", "",
    )  # fmt: skip
    assert {path.name for path in finished.path.iterdir()} - {"lock"} == others - {"lock"}
    assert states(output)[NAME] == "finished"
    assert runs("delete", NAME, "--video", again.stem[5:], "--yes")[0] == 0
    assert states(output)[NAME] == "unfinished"
    with held(finished):
        assert runs("delete", NAME, "--video", "0", "--yes")[0] == 1
    for wrong in (["--all", "--video", "0"], [NAME, OTHER, "--video", "0"], [NAME, "--video", "0", "--windows-only"]):
        with pytest.raises(SystemExit):
            runs("delete", *wrong, "--yes")


def test_delete_windows_only(runs: Run, finished: RunFolder, unfinished: RunFolder) -> None:
    video = video_of(finished).read_bytes()
    make_talk(finished.path.parent, windows=3, rerender="3:7")
    before = finished.bytes() + unfinished.bytes()
    code, out, _ = runs("delete", "--all", "--windows-only", "--yes")
    freed = before - finished.bytes() - unfinished.bytes()
    assert code == 0
    assert out.endswith(f"\ndeleted the windows of 2 runs, {freed / 1e6:.1f} MB freed\n")
    assert video_of(finished).read_bytes() == video
    assert sorted(path.name for path in finished.path.iterdir()) == [
        "lock", "manifest.json", video_of(finished).with_suffix(".json").name, video_of(finished).name
    ]  # fmt: skip
    assert runs("inspect", NAME, "--verify")[0] == 0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_delete_asks(runs: Run, finished: RunFolder, unfinished: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert runs("delete", "--all")[::2] == (
        1,
        "error: confirmation: expected a person at the terminal, or --yes, got an input that is no terminal. "
        "Add --yes to delete without being asked, or --dry-run to see what would be deleted. [LT-SETTING]\n",
    )
    total = f"{(finished.bytes() + unfinished.bytes()) / 1e6:.1f} MB"
    for answer in ("n\n", "\n", "", "yep\n"):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        code, out, _ = runs("delete", "--all")
        assert code == 1
        assert out.endswith(
            f"\nDelete 2 runs, {total}? 1 not finished: what is made of it is lost. [y/N] nothing is deleted\n"
        )
    assert finished.path.exists()
    monkeypatch.setattr(sys, "stdin", Terminal("Y\n"))
    code, out, _ = runs("delete", NAME)
    assert code == 0
    assert "? [y/N] deleted 1 run, " in out


def test_a_run_in_use_is_not_deleted(runs: Run, output: Path, unfinished: RunFolder) -> None:
    with held(unfinished) as process:
        code, _, errors = runs("delete", OTHER, "--yes")
        assert code == 1
        assert errors.startswith(
            f"error: run {OTHER}: expected a run that nobody is working on, got process {process} on "
        )
        assert errors.endswith(". Wait for it to end, or cancel it in ComfyUI. [LT-RUN]\n")
        code, out, errors = runs("delete", "--all", "--yes")
        assert code == 0
        assert "deleted 1 run, " in out
        assert errors.startswith(f"note: {OTHER} is left alone: in use by process {process} on ")
        # Taken between the look and the deletion: the lock decides.
        (unfinished.path / "owner.json").unlink()
        code, out, errors = runs("delete", OTHER, "--yes")
        assert code == 1
        assert errors.startswith(f"error: run {OTHER}: expected a run that nobody else is working on, got ")
        assert "deleted 0 runs, 0.0 MB freed\n" in out
    assert [record.window for record in current_chain(unfinished)] == [1, 2]
    assert runs("delete", OTHER, "--yes")[0] == 0
    assert states(output) == {}


@pytest.mark.parametrize("windows_only", [False, True])
def test_links_inside_a_run_are_not_followed(
    runs: Run, finished: RunFolder, tmp_path: Path, windows_only: bool
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("precious")
    key = current_chain(finished)[0].key
    finished.segment_path(1, key).unlink()
    finished.segment_path(1, key).symlink_to(outside / "precious.txt")
    finished.carry_path(1, key).unlink()
    finished.carry_path(1, key).symlink_to(outside, target_is_directory=True)
    (finished.path / "link").symlink_to(outside, target_is_directory=True)
    (finished.path / "sub").mkdir()
    (finished.path / "sub" / "link").symlink_to(outside, target_is_directory=True)
    (finished.path / "sub" / "file").symlink_to(outside / "precious.txt")
    finished.manifest_path.unlink()
    finished.manifest_path.symlink_to(outside / "precious.txt")
    assert "damaged manifest" in runs("list")[1]
    code, _, errors = runs("delete", NAME, "--yes", *["--windows-only"] * windows_only)
    assert code == 0
    left = sorted(path.name for path in finished.path.iterdir())
    assert not [name for name in left if name.startswith("window_")]
    assert [name for name in left if name in ("link", "sub")] == ["link", "sub"], "they are not LongTalk's"
    assert (finished.path / "sub" / "link").is_symlink()
    assert (outside / "precious.txt").read_text() == "precious"
    if not windows_only:
        assert left == ["link", "sub"]
        assert errors == f"note: {finished.path} stays, with what is not from LongTalk: link, sub\n"
        assert states(finished.path.parent.parent)[NAME] == "not a run"


def test_only_what_is_ours_is_deleted_and_the_rest_is_named(runs: Run, output: Path, finished: RunFolder) -> None:
    (finished.path / "holiday.jpg").write_bytes(b"not ours")
    (finished.path / "window_00009_01234567.mp4").mkdir()
    assert (
        "\nnot from LongTalk, and never touched: holiday.jpg, window_00009_01234567.mp4\n" in runs("inspect", NAME)[1]
    )
    code, out, errors = runs("delete", NAME, "--yes")
    assert code == 0
    assert "\ndeleted 1 run, " in out
    assert "stays, with what is not from LongTalk: holiday.jpg, window_00009_01234567.mp4" in errors
    left = sorted(path.name for path in finished.path.iterdir())
    assert left == ["holiday.jpg", "window_00009_01234567.mp4"]


@pytest.mark.parametrize(
    "files",
    [
        {"manifest.json": "{}"},
        {"manifest.json": '{"format": 2}', "report.txt": "my report"},
        {"report.txt": "my report"},
        {"talk.mp4": "my talk", "talk.json": "{}"},
        {"sound.mp4": "my sound"},
        {"lock": "", "holiday.jpg": ""},
        {"app.part.json": "", "photo.raw.part": ""},
    ],
    ids=lambda files: " ".join(files),
)
def test_a_folder_that_only_has_the_names_is_left_alone(runs: Run, output: Path, files: dict[str, str]) -> None:
    foreign = output / "longtalk" / ("a" * 16)
    foreign.mkdir()
    for name, text in files.items():
        (foreign / name).write_text(text)
    assert states(output)[foreign.name] == "not a run"
    assert "is left alone: not a run" in runs("delete", "--all", "--yes")[2]
    assert "expected a run that LongTalk made" in runs("delete", foreign.name, "--yes")[2]
    assert {path.name: path.read_text() for path in foreign.iterdir()} == files


@pytest.mark.parametrize("files", [[], ["lock"], ["lock", "owner.json"], ["lock", "sound.mp4", "manifest.json.part"]])
def test_a_run_that_was_stopped_as_it_began_is_deleted(runs: Run, output: Path, files: list[str]) -> None:
    begun = output / "longtalk" / ("a" * 16)
    begun.mkdir()
    for name in files:
        (begun / name).touch()
    assert states(output)[begun.name] == "no manifest"
    assert runs("delete", begun.name, "--yes")[::2] == (0, "")
    assert not begun.exists()


@pytest.mark.parametrize(("number", "state"), [(1, "of an older format"), (FORMAT + 1, "of a newer format")])
def test_a_run_of_another_format_is_named_and_left(
    runs: Run, output: Path, finished: RunFolder, number: int, state: str
) -> None:
    apply(finished.manifest_path, {"format": number})
    before = {path: path.read_bytes() for path in finished.path.iterdir()}
    assert states(output)[NAME] == state
    assert f"its format is {number}, that of a" in runs("inspect", NAME)[1]
    assert f"note: {NAME} is left alone: {state}\n" in runs("delete", "--all", "--yes")[2]
    assert {path: path.read_bytes() for path in finished.path.iterdir()} == before
    assert runs("delete", NAME, "--yes")[0] == 0, "whoever names it means it"
    assert not finished.path.exists()
