"""Does the mouth of the demo's video follow the voice? Measured from the files, and drawn.

The README's pictures of it: `.venv/bin/python scripts/demo_sync.py`, after scripts/demo.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from longtalk.base.canvas import FAINT, TITLE, Canvas
from longtalk.base.strip import BASE_WIDTH, Strip, ticks
from longtalk.base.waves import GRID
from longtalk.base.words import count as count_of
from longtalk.infinitetalk.run.video.join import read_frames
from longtalk.metrics.mouth import mouth_height
from longtalk.metrics.sync import Sync, follow
from longtalk.training import faces, talking
from longtalk.training.clips import decode

SIZE = (faces.TILE_HEIGHT, faces.TILE_WIDTH)
"""Rows and columns of the demo's picture."""
FPS = 25
VOICE, LIPS = (230, 159, 0), (0, 114, 178)  # orange and blue of Okabe and Ito
_ENLARGED = 2.2


class Talk:
    """A talking video and its sound.

    Attributes:
        frames: uint8 ``[F, H, W, 3]``.
        mouth: its height in each frame, in pixels.
        voice: the opening that the sound asks for in each frame, 0 to 1.
        sync: how the one follows the other.
    """

    def __init__(self, video: Path, sound: Path) -> None:
        self.frames = np.stack(list(read_frames([video])))
        self.mouth = mouth_height(torch.from_numpy(self.frames).float() / 255, talking.MOUTH)
        self.voice = talking.voice(decode(sound))[: len(self.mouth)]
        self.sync: Sync = follow(self.mouth, self.voice)


def draw(talk: Talk, *, width: int = BASE_WIDTH) -> np.ndarray:
    """Faces along the time, and below them the voice (a ground) and the mouth (a line). uint8 ``[H, W, 3]``."""
    margin, right = 170, 60
    height, face_width = (round(size * _ENLARGED) for size in talk.frames.shape[1:3])
    curve_top = 110 + height + 30
    curve_bottom = curve_top + 260
    canvas = Canvas(width, round((curve_bottom + 150) * width / BASE_WIDTH), round(margin * width / BASE_WIDTH))
    px = canvas.px
    count = len(talk.mouth)
    strip = Strip(0, count, px(margin), width - px(right))
    canvas.text(px(24), px(16), f"The mouth follows the voice: {_words(talk.sync)}", size=TITLE)
    shown = (strip.right - strip.left) // (px(face_width) + px(8))
    for x in np.linspace(strip.left, strip.right - px(face_width), shown).round().astype(int).tolist():
        frame = talk.frames[int((x + px(face_width) / 2 - strip.left) / strip.columns_per_frame)]
        picture = Image.fromarray(frame).resize((px(face_width), px(height)), Image.Resampling.BICUBIC)
        canvas.pixels[px(90) : px(90) + px(height), x : x + px(face_width)] = np.asarray(picture)
    marks = ticks(strip, px(150), FPS)
    for x, _ in marks:
        canvas.box(x, px(curve_top), x + px(2), px(curve_bottom), GRID)
    for name, values, colour, filled in (("voice", talk.voice, VOICE, True), ("mouth", talk.mouth, LIPS, False)):
        _curve(canvas, strip, (px(curve_top), px(curve_bottom)), values, colour, filled=filled)
        row = curve_top + (60 if filled else 130)
        canvas.box(px(24), px(row) - px(12), px(48), px(row) + px(12), colour)
        canvas.text(px(60), px(row), name, FAINT, anchor="lm")
    canvas.time_axis(strip.left, strip.right, px(curve_bottom), marks)
    words = f"voice: opening that the sound asks for, 0 to 1; mouth: height in pixels, 0 to {_top(talk.mouth)}"
    canvas.text(strip.left, px(curve_bottom + 90), words, FAINT)
    return canvas.finish()


def _words(sync: Sync) -> str:
    words = f"r = {sync.r:.2f} at lag 0"
    if sync.lag:
        words += f", {sync.best:.2f} when {count_of(abs(sync.lag), 'frame')} {'late' if sync.lag > 0 else 'early'}"
    return words


def _top(values: torch.Tensor) -> int:
    """The end of an axis."""
    return max(1, int(np.ceil(float(values.max()))))


def _curve(
    canvas: Canvas,
    strip: Strip,
    rows: tuple[int, int],
    values: torch.Tensor,
    colour: tuple[int, int, int],
    *,
    filled: bool,
) -> None:
    (top, bottom), thick = rows, canvas.px(5)
    columns = np.arange(strip.left, strip.right)
    frames = (columns - strip.left) / strip.columns_per_frame - 0.5
    heights = np.interp(frames, np.arange(len(values)), values.numpy()) / _top(values)
    edges = np.round(bottom - heights * (bottom - top)).astype(int)
    before = np.concatenate([edges[:1], edges[:-1]])
    for x, edge, last in zip(columns.tolist(), edges.tolist(), before.tolist(), strict=True):
        if filled:
            canvas.box(x, edge, x + 1, bottom, colour)
        else:
            canvas.box(x, min(edge, last) - thick // 2, x + 1, max(edge, last) + thick - thick // 2, colour)


def write_picture(talk: Talk, path: Path) -> None:
    Image.fromarray(draw(talk)).save(path, optimize=True)


def write_clip(frames: np.ndarray, path: Path, *, times: int = 4) -> None:
    """An animated .webp to look at without a player: the same frames, larger, without sound."""
    size = (frames.shape[2] * times, frames.shape[1] * times)
    first, *others = (Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC) for frame in frames)
    first.save(path, save_all=True, append_images=others, duration=1000 // FPS, loop=0, quality=70, method=4)


if __name__ == "__main__":
    clone = Path(__file__).resolve().parent.parent
    shown = Talk(clone / "demo-output" / "talk.mp4", clone / "scripts" / "assets" / "speech.flac")
    write_picture(shown, clone / "docs" / "demo_sync.png")
    write_clip(shown.frames, clone / "docs" / "demo.webp")
