"""How well does the tiny model that talks follow a voice, with this setting and with that?

    python -m benchmarks.sync
    python -m benchmarks.sync --clip my_speech.wav --seconds 20 --only steps

One setting at a time is changed from what the demo uses. r is the correlation of the mouth's height with the opening
that the sound asks for, lag the frames by which the mouth is late where it follows best, seam the change where windows
join over that where other latents do (1 is seamless), pulse the change from latent to latent over that from frame to
frame. The model is tiny: what is better here need not be with the real ones, but what is broken here is broken.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import comfyui

#: Group, name, and what it changes of the Sampler's inputs.
SETTINGS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("demo", "4 steps, official features", {}),
    ("seed", "another seed", {"seed": 2}),
    ("steps", "2 steps", {"steps": 2}),
    ("steps", "8 steps", {"steps": 8}),
    ("features", "features as core has them", {"features": "core"}),
    ("audio", "audio scale 0.5", {"audio_scale": 0.5}),
    ("audio", "audio scale 1.5", {"audio_scale": 1.5}),
    ("audio", "audio guidance 2", {"audio_cfg": 2.0}),
    ("windows", "windows of 49 frames", {"window_frames": 49}),
    ("windows", "5 motion frames", {"motion_frames": 5}),
    ("windows", "17 motion frames", {"motion_frames": 17}),
)


def rows(clip: Path, seconds: float, only: str | None) -> Iterator[dict[str, Any]]:
    """A row for each setting."""
    import tiny_talker

    from longtalk.metrics import look, sync
    from longtalk.metrics.opening import RATE_HZ
    from longtalk.training import talking
    from longtalk.training.clips import decode

    with tempfile.TemporaryDirectory() as folder:
        tiny_talker.make_all(Path(folder))
        files = {name.removeprefix("talker_"): Path(folder) / path for name, path in tiny_talker.FILES.items()}
        parts = talking.load(files)
        sound = decode(clip)[: round(seconds * RATE_HZ)]
        voice = talking.voice(sound)
        image = talking.portrait(talking.draw_faces(50, 1))
        for group, name, changes in SETTINGS:
            if only is not None and group not in ("demo", only):
                continue
            began = time.perf_counter()
            talk = talking.make(parts, image, [sound], **changes)
            took_s = time.perf_counter() - began
            found = sync.follow(talk.mouth(), voice)
            yield {
                "group": group,
                "setting": name,
                "r": round(found.r, 3),
                "lag": found.lag,
                "r_there": round(found.best, 3),
                "seam": round(look.seam_ratio(talk.frames, talk.starts), 2) if talk.starts else None,
                "drift": round(look.colour_drift(talk.frames), 1),
                "flicker": round(look.flicker(talk.frames), 2),
                "pulse": round(look.pulse(talk.frames), 2),
                "seconds": round(took_s, 1),
            }


def main() -> int:
    clip = Path(__file__).resolve().parent.parent / "tests" / "assets" / "voice_0_slt.opus"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, default=clip, help="speech; by default a voice that was not trained on")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the clip")
    parser.add_argument("--only", choices=sorted({group for group, *_ in SETTINGS}), help="this group, and the demo's")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    chosen = parser.parse_args()
    comfyui.start()
    made = []
    print(
        f"{'setting':<28} {'r':>6} {'lag':>4} {'seam':>5} {'pulse':>6} {'drift':>6} {'flicker':>8} {'seconds':>8}",
        flush=True,
    )
    for row in rows(chosen.clip, chosen.seconds, chosen.only):
        made.append(row)
        seam = "-" if row["seam"] is None else f"{row['seam']:.2f}"
        print(
            f"{row['setting']:<28} {row['r']:>6.3f} {row['lag']:>4} {seam:>5} {row['pulse']:>6.2f} "
            f"{row['drift']:>6.1f} {row['flicker']:>8.2f} {row['seconds']:>8.1f}",
            flush=True,
        )
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(made, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
