"""Make the demo's speech and its faces (scripts/assets). Needs espeak-ng on PATH, and the clone's environment.

The results are in the repository; this is how they came about: `.venv/bin/python scripts/make_assets.py`.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter

from longtalk.training import faces

ASSETS = Path(__file__).resolve().parent / "assets"
RATE_HZ = 48000
PEAK = 0.7
SPEECH = (
    "Hello, I am a portrait. <break time='400ms'/> LongTalk splits speech into windows, "
    "<break time='200ms'/> and I talk for exactly as long as the sound. <break time='450ms'/> "
    "Three seconds, or an hour."
)

SIZE = (832, 480)
SCALE = 4  # drawn larger and reduced, for smooth edges

SKIN = (238, 190, 158)
SKIN_SHADE = (222, 164, 132)
HAIR = (74, 47, 38)
HAIR_LIGHT = (96, 63, 50)
SHIRT = (38, 110, 122)
SHIRT_SHADE = (28, 88, 99)
IRIS = (70, 104, 84)
LIP = (196, 92, 88)
WALL_TOP, WALL_BOTTOM = (247, 226, 196), (232, 190, 160)

Point = tuple[float, float]


def speech(path: Path) -> None:
    """Speak with espeak-ng, resample to 48 kHz mono with libswresample, write FLAC."""
    if not shutil.which("espeak-ng"):
        raise SystemExit("error: espeak-ng is not installed. Install it (for example: apt-get install espeak-ng).")
    with tempfile.TemporaryDirectory() as temporary:
        raw = Path(temporary) / "speech.wav"
        subprocess.run(["espeak-ng", "-m", "-v", "en-us", "-s", "150", "-p", "42", "-w", str(raw), SPEECH], check=True)
        with av.open(str(raw)) as source:
            resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
            frames = [out for frame in source.decode(audio=0) for out in resampler.resample(frame)]
            frames += resampler.resample(None)
    samples = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)
    samples *= PEAK / np.abs(samples).max()
    with av.open(str(path), "w") as target:
        stream = target.add_stream("flac", rate=RATE_HZ, layout="mono")
        frame = av.AudioFrame.from_ndarray((samples * 32767).round().astype(np.int16), format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        frame.pts = 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            target.mux(packet)
    print(f"{path}: {samples.shape[1] / RATE_HZ:.2f} s, {path.stat().st_size / 1000:.0f} kB")


class Canvas:
    """Pillow's drawing calls, in units of the finished picture."""

    def __init__(self, picture: Image.Image) -> None:
        self.picture = picture
        self.draw = ImageDraw.Draw(picture)

    def ellipse(self, centre: Point, radii: Point, fill: tuple[int, ...]) -> None:
        (x, y), (rx, ry) = centre, radii
        self.draw.ellipse([(x - rx) * SCALE, (y - ry) * SCALE, (x + rx) * SCALE, (y + ry) * SCALE], fill=fill)

    def shape(self, points: list[Point], fill: tuple[int, ...]) -> None:
        """A closed smooth curve through the points."""
        self.draw.polygon([(x * SCALE, y * SCALE) for x, y in smooth(points, closed=True)], fill=fill)

    def stroke(self, points: list[Point], width: float, fill: tuple[int, ...]) -> None:
        """A smooth line through the points with round ends."""
        for x, y in smooth(points, closed=False):
            self.ellipse((x, y), (width / 2, width / 2), fill)


def smooth(points: list[Point], *, closed: bool, steps: int = 60) -> list[Point]:
    """Catmull-Rom spline through the points."""
    known = np.array(points)
    padded = np.concatenate([known[-1:], known, known[:2]] if closed else [known[:1], known, known[-1:]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    pieces = []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        pieces.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - 3 * c + d - a) * t**3))
    return [(float(x), float(y)) for x, y in np.concatenate(pieces)]


def background() -> Image.Image:
    width, height = SIZE[0] * SCALE, SIZE[1] * SCALE
    rows = np.linspace(0, 1, height)[:, None, None]
    wall = (1 - rows) * np.array(WALL_TOP) + rows * np.array(WALL_BOTTOM)
    picture = Image.fromarray(np.broadcast_to(wall, (height, width, 3)).round().astype(np.uint8))
    light = Image.new("RGB", picture.size)
    Canvas(light).ellipse((416, 200), (330, 250), (26, 24, 18))
    light = light.filter(ImageFilter.GaussianBlur(60 * SCALE))
    return Image.fromarray(np.minimum(np.asarray(picture).astype(int) + np.asarray(light), 255).astype(np.uint8))


def portrait(path: Path) -> None:
    picture = background()
    face(Canvas(picture), 416)
    picture.resize(SIZE, Image.Resampling.LANCZOS).save(path, optimize=True)
    print(f"{path}: {SIZE[0]}x{SIZE[1]}, {path.stat().st_size / 1000:.0f} kB")


def talking_face(path: Path) -> None:
    """A face as the tiny model that talks knows them, in the portrait's colours."""

    def colour(red: float, green: float, blue: float) -> torch.Tensor:
        return torch.tensor([[red, green, blue]])

    drawn = faces.Faces(
        above=colour(0.85, 0.80, 0.70),
        below=colour(0.80, 0.66, 0.55),
        skin=torch.tensor([faces.SKIN]),
        hair=colour(0.29, 0.18, 0.15),
        shirt=colour(0.15, 0.43, 0.48),
        iris=colour(0.27, 0.41, 0.33),
        centre_x=torch.tensor([32.0]),
        centre_y=torch.tensor([38.0]),
        half_width=torch.tensor([18.5]),
        half_height=torch.tensor([25.5]),
        mouth=torch.tensor([9.0]),
    )
    pixels = faces.render(drawn, faces.at_rest(torch.zeros(1, 1)))[0, :, 0].permute(1, 2, 0)
    Image.fromarray(((pixels + 1) * 127.5).round().clamp(0, 255).byte().numpy()).save(path, optimize=True)
    print(f"{path}: {faces.TILE_WIDTH}x{faces.TILE_HEIGHT}, {path.stat().st_size / 1000:.0f} kB")


def face(canvas: Canvas, x: float) -> None:
    """Head and shoulders around the axis `x`, from back to front."""
    # hair behind the head
    canvas.shape([(x, 42), (x - 92, 70), (x - 132, 160), (x - 128, 270), (x - 104, 330), (x, 318), (x + 104, 330),
                  (x + 128, 270), (x + 132, 160), (x + 92, 70)], HAIR)  # fmt: skip
    # shoulders, neck
    canvas.shape([(x - 250, 560), (x - 218, 448), (x - 120, 404), (x, 392), (x + 120, 404), (x + 218, 448),
                  (x + 250, 560), (x, 620)], SHIRT)  # fmt: skip
    canvas.shape([(x - 62, 392), (x - 34, 428), (x, 442), (x + 34, 428), (x + 62, 392), (x, 372)], SHIRT_SHADE)
    canvas.shape([(x - 42, 300), (x - 46, 385), (x, 426), (x + 46, 385), (x + 42, 300)], SKIN_SHADE)
    # ears, head
    for side in (-1, 1):
        canvas.ellipse((x + side * 106, 218), (15, 27), SKIN_SHADE)
    canvas.shape([(x, 84), (x - 76, 104), (x - 106, 190), (x - 95, 276), (x - 52, 342), (x, 362), (x + 52, 342),
                  (x + 95, 276), (x + 106, 190), (x + 76, 104)], SKIN)  # fmt: skip
    cheeks(canvas, x)
    # hair in front: parted on one side
    canvas.shape([(x + 34, 62), (x - 30, 58), (x - 94, 100), (x - 116, 190), (x - 110, 218), (x - 92, 172),
                  (x - 50, 136), (x + 10, 118), (x + 40, 92)], HAIR)  # fmt: skip
    canvas.shape([(x + 24, 66), (x + 66, 68), (x + 104, 112), (x + 117, 190), (x + 110, 218), (x + 96, 168),
                  (x + 66, 128), (x + 36, 104)], HAIR)  # fmt: skip
    canvas.stroke([(x - 88, 132), (x - 46, 102), (x + 6, 88)], 5, HAIR_LIGHT)
    canvas.stroke([(x + 62, 92), (x + 86, 118), (x + 100, 150)], 5, HAIR_LIGHT)
    for side in (-1, 1):
        eye(canvas, x + side * 44, 212, side)
    # nose, mouth
    canvas.stroke([(x - 4, 226), (x - 9, 256), (x - 13, 270), (x, 276), (x + 11, 271)], 4, SKIN_SHADE)
    mouth(canvas, x, 310)


def cheeks(canvas: Canvas, x: float) -> None:
    blush = Image.new("L", canvas.picture.size)
    for side in (-1, 1):
        Canvas(blush).ellipse((x + side * 66, 270), (22, 16), (90,))
    blush = blush.filter(ImageFilter.GaussianBlur(9 * SCALE))
    canvas.picture.paste(Image.new("RGB", blush.size, (228, 120, 108)), mask=blush)


def eye(canvas: Canvas, x: float, y: float, side: int) -> None:
    canvas.shape([(x - 23, y + 2), (x, y - 14), (x + 23, y + 2), (x, y + 12)], (252, 249, 245))
    canvas.ellipse((x, y - 1), (12, 12), IRIS)
    canvas.ellipse((x, y - 1), (6, 6), (28, 24, 24))
    canvas.ellipse((x + 4, y - 5), (3.2, 3.2), (255, 255, 255))
    canvas.stroke([(x - 24, y + 1), (x - 12, y - 11), (x, y - 14), (x + 12, y - 11), (x + 24, y + 1)], 4.5, HAIR)
    canvas.stroke([(x - side * 22, y - 32), (x + side * 4, y - 39), (x + side * 28, y - 31)], 6.5, HAIR_LIGHT)


def mouth(canvas: Canvas, x: float, y: float) -> None:
    """A smile, a little open, so that there is something to move."""
    outer = [(x - 40, y - 4), (x - 16, y - 8), (x, y - 5), (x + 16, y - 8), (x + 40, y - 4), (x + 20, y + 15),
             (x, y + 20), (x - 20, y + 15)]  # fmt: skip
    inner = [(x - 31, y - 1), (x, y + 1), (x + 31, y - 1), (x + 15, y + 9), (x, y + 12), (x - 15, y + 9)]
    teeth = [(x - 26, y), (x, y + 1), (x + 26, y), (x + 13, y + 5), (x, y + 6), (x - 13, y + 5)]
    canvas.shape(outer, LIP)
    canvas.shape(inner, (112, 40, 42))
    canvas.shape(teeth, (250, 246, 240))


if __name__ == "__main__":
    ASSETS.mkdir(exist_ok=True)
    speech(ASSETS / "speech.flac")
    portrait(ASSETS / "portrait.png")
    talking_face(ASSETS / "face.png")
