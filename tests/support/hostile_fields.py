"""What the hostile input tests send to each input of each node; what is not listed stays in order."""

from __future__ import annotations

from collections.abc import Mapping

import hostile_objects as objects
import hostile_values as values

Field = Mapping[str, values.Strategy]

PLAN: Field = {
    "audio": values.AUDIO,
    "window_frames": values.WINDOW,
    "motion_frames": values.MOTION,
    "plan_mode": values.WORDS,
    "speakers": values.ANYTHING,
    "schedule_text": values.either(values.WORDS, values.ANYTHING),
    "timing": values.ANYTHING,
}

SILENCE: Field = {
    "silence_gate": values.ANYTHING,
    "pause_seconds": values.either(values.sent(0.4, 2, 60.5), values.NUMBERS),
    "ending": values.either(values.sent("hold"), values.WORDS),
    "shots": values.either(values.sent(0, 5.5, -8), values.NUMBERS),
    "audio": values.AUDIO,
    "speakers": values.ANYTHING,
    "threshold": values.either(values.sent(0.05, 0.95, 0.0), values.NUMBERS),
}

SPEAKERS: Field = {
    "audio_1": values.AUDIO,
    "mode": values.WORDS,
    "mask_1": values.MASKS,
    "audio_2": values.AUDIO,
    "mask_2": values.MASKS,
    "audio_3": values.AUDIO,
    "mask_3": values.MASKS,
    "audio_4": values.AUDIO,
    "mask_4": values.MASKS,
    "start_1": values.NUMBERS,
    "start_2": values.NUMBERS,
    "start_3": values.NUMBERS,
    "start_4": values.NUMBERS,
}

ENCODE: Field = {
    "audio_encoder": objects.MODELS,
    "features": values.WORDS,
    "normalize_loudness": values.ANYTHING,
    "audio": values.AUDIO,
    "speakers": values.ANYTHING,
}

GUIDER: Field = {
    "model": objects.MODELS,
    "positive": values.conditioning(),
    "negative": values.conditioning(),
    "cfg": values.NUMBERS,
    "audio_cfg": values.NUMBERS,
}

PICTURE: Field = {
    "model_patch": objects.MODELS,
    "vae": objects.MODELS,
    "image": values.IMAGES,
    "width": values.SIDES,
    "height": values.SIDES,
    "audio_scale": values.NUMBERS,
    "window_frames": values.WINDOW,
    "motion_frames": values.MOTION,
    "plan_mode": values.WORDS,
    "codec": values.WORDS,
    "crf": values.WHOLE,
    "return_images": values.ANYTHING,
    "clip_vision_output": values.VISION,
    "soundtrack": values.AUDIO,
    "resume": values.WORDS,
    "rerender_from": values.RERENDER,
    "finished_runs": values.WORDS,
    "schedule": values.ANYTHING,
    "timing": values.ANYTHING,
}

SAMPLER: Field = {
    **GUIDER,
    **PICTURE,
    "seed": values.WHOLE,
    "steps": values.STEPS,
    "sampler_name": values.WORDS,
    "scheduler": values.WORDS,
    "features": values.WORDS,
    "audio_encoder": objects.MODELS,
    "audio": values.AUDIO,
    "speakers": values.ANYTHING,
}

ADVANCED: Field = {
    **PICTURE,
    "speech": objects.MODELS,
    "noise": objects.NOISE,
    "sampler": objects.SAMPLERS,
    "sigmas": objects.SIGMAS,
    "guider": objects.GUIDERS,
    "positive": values.conditioning(),
}

LTX: Field = {
    "vae": objects.MODELS,
    "audio_vae": objects.MODELS,
    "image": values.IMAGES,
    "audio": values.AUDIO,
    "width": values.SIDES,
    "height": values.SIDES,
    "fps": values.WHOLE,
    "window_seconds": values.NUMBERS,
    "overlap_seconds": values.NUMBERS,
    "overlap_mode": values.WORDS,
    "seed": values.WHOLE,
    "steps": values.STEPS,
    "cfg": values.NUMBERS,
    "sampler_name": values.WORDS,
    "scheduler": values.WORDS,
    "image_strength": values.NUMBERS,
    "img_compression": values.NUMBERS,
    "adain": values.NUMBERS,
    "reanchor_seconds": values.NUMBERS,
    "codec": values.WORDS,
    "crf": values.WHOLE,
    "return_images": values.ANYTHING,
    "model": objects.MODELS,
    "positive": values.conditioning(),
    "negative": values.conditioning(),
    "guider": objects.GUIDERS,
    "sampler": objects.SAMPLERS,
    "sigmas": objects.SIGMAS,
    "keyframe_images": values.IMAGES,
    "keyframes": values.either(values.WORDS, values.ANYTHING),
    "keyframe_strength": values.NUMBERS,
    "soundtrack": values.AUDIO,
    "resume": values.WORDS,
    "rerender_from": values.RERENDER,
    "finished_runs": values.WORDS,
    "attention": values.WORDS,
    "schedule": values.ANYTHING,
    "retake": values.either(values.WORDS, values.RERENDER, values.ANYTHING),
    "timing": values.ANYTHING,
}

SAVING: Field = {
    "conditioning": values.either(values.conditioning(), values.NESTED),
    "filename_prefix": values.PREFIXES,
    "clip_vision_output": values.VISION,
}
