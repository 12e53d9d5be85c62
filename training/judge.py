"""Judge a compact weights file: expanded into checkpoints, loaded by ComfyUI's loaders, sampled by LongTalk's nodes.

python -m longtalk.training.judge --compact STATE/talker.safetensors --data training/data --out STATE/judged
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import astuple
from pathlib import Path
from typing import Any

import torch

from longtalk.metrics import look, sync
from longtalk.metrics.mouth import QUIET
from longtalk.metrics.opening import RATE_HZ

from . import talking
from .clips import decode as read_sound
from .common import import_comfyui, say

_SHORT_S = 6


def write_models(compact: Path, out: Path) -> dict[str, Path]:
    """The checkpoint files, in ``out``."""
    import tiny_talker
    from safetensors.torch import load_file
    from tiny_weights import write

    names = {"wan": "diffusion", "patch": "patch", "vae": "vae"}
    files = {part: out / f"{part}.safetensors" for part in (*names.values(), "audio_encoder")}
    for name, weights in tiny_talker.expand(load_file(str(compact))).items():
        write(files[names[name]], weights)
    write(files["audio_encoder"], tiny_talker.wav2vec2())
    return files


def sheet(frames: torch.Tensor, path: Path, count: int = 24, columns: int = 8) -> None:
    from PIL import Image

    chosen = frames[torch.linspace(0, len(frames) - 1, count).long()]
    rows = chosen.unflatten(0, (-1, columns)).permute(0, 2, 1, 3, 4).flatten(2, 3).flatten(0, 1)
    Image.fromarray((rows * 255).clamp(0, 255).byte().numpy()).save(path)


def figures(talk: talking.Talk, voice: torch.Tensor) -> dict[str, Any]:
    mouth = talk.mouth()
    voice = voice[: len(mouth)]
    quiet = mouth[: len(voice)][voice < QUIET]
    return {
        "r, lag, r there": [round(value, 3) for value in astuple(sync.follow(mouth, voice))],
        "seam": round(look.seam_ratio(talk.frames, talk.starts), 2) if talk.starts else None,
        "drift": round(look.colour_drift(talk.frames), 1),
        "flicker": round(look.flicker(talk.frames), 2),
        "pulse": round(look.pulse(talk.frames), 2),
        "rest px": round(float(quiet.mean()), 2) if len(quiet) else None,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--compact", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="with the test clips")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each clip")
    args = parser.parse_args()
    import_comfyui()
    args.out.mkdir(parents=True, exist_ok=True)
    import folder_paths

    folder_paths.set_output_directory(str(args.out))
    torch.set_grad_enabled(False)
    began = time.time()
    parts = talking.load(write_models(args.compact, args.out))
    say(f"loaded in {time.time() - began:.1f} s")
    sounds = {path.stem: read_sound(path) for path in sorted(args.data.glob("test_*.opus"))}
    recording = args.data / "recording.wav"  # real speech, never trained on
    if recording.is_file():
        sounds["recording"] = read_sound(recording)
    sounds = {name: sound[: int(args.seconds * RATE_HZ)] for name, sound in sounds.items()}
    found: dict[str, Any] = {}

    def report(name: str, what: Any) -> None:
        found[name] = what
        say(name, what)

    for index, (name, sound) in enumerate(sounds.items()):
        talk = talking.make(parts, talking.portrait(talking.draw_faces(50 + index, 1)), [sound])
        report(name, figures(talk, talking.voice(sound)))
        sheet(talk.frames, args.out / f"{index}.png")
    names = list(sounds)
    first, second = ((sounds[name])[: _SHORT_S * RATE_HZ] for name in names[:2])
    voices = [talking.voice(sound) for sound in (first, second)]
    talk = talking.make(parts, talking.portrait(talking.draw_faces(60, 1)), [first], audio_scale=0.0)
    report("audio scale 0", round(sync.correlation(talk.mouth(), voices[0]), 2))
    for count, tiles in ((2, (0, 1)), (2, (1, 0)), (3, (2, 0))):
        image = talking.portrait(talking.draw_faces(70 + count, count))
        talk = talking.make(parts, image, [first, second], tiles=tiles)
        table = sync.who_follows([talk.mouth(tile) for tile in range(count)], voices)
        report(f"{count} faces, speakers {tiles}: r of each mouth with each voice", table)
        sheet(talk.frames, args.out / f"{count}faces_{tiles[0]}.png", 16, 4)
    (args.out / "figures.json").write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
