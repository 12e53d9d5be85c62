"""For loops that are wired by hand: latents of windows, conditionings, single frames, memory."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import Input, InputImpl, io

from ..base.errors import LinkError
from ..base.tensors import described
from ..base.values import check_number, check_whole
from ..infinitetalk.host.blend import blend_conditioning
from ..infinitetalk.host.memory import purge
from ..infinitetalk.model.latents import LATENTS_MAX, Curve, context, crossfade, pin, trim
from ..infinitetalk.plan.ltx_loop import ITERATION_MAX
from ..infinitetalk.run.video.frames import FPS_MAX, TIME_MAX_S, frame_number, video_frame
from .inputs import CATEGORY, share_input, to_image
from .loop_inputs import image_batch


def latents_input(lowest: int, tooltip: str) -> Any:
    """How many latents."""
    return io.Int.Input("latents", default=7, min=lowest, max=LATENTS_MAX, tooltip=tooltip)


class LongTalkLatentContext(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkLatentContext",
            display_name="Latent Context (LongTalk)",
            category=CATEGORY,
            description="The last latents of a video, for the next window of a loop to start from. Without the noise "
            "mask of the pass they come from, which would hold the wrong latents fixed. Of a joint audio and video "
            "latent, the video.",
            search_aliases=["last latents", "overlap", "extract latent"],
            inputs=[
                io.Latent.Input("latent"),
                latents_input(1, "overlap_latents of Loop Controller; 7 are 49 frames."),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
        )

    @classmethod
    def execute(cls, latent: Any, latents: int) -> io.NodeOutput:
        return io.NodeOutput(context(latent, latents))


class LongTalkLatentTrim(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkLatentTrim",
            display_name="Latent Trim (LongTalk)",
            category=CATEGORY,
            description="Drops the first latents of a window, which it took over from the one before, and the noise "
            "mask of its pass. Of a joint audio and video latent, the video stays.",
            search_aliases=["drop latents", "overlap", "cut latent"],
            inputs=[
                io.Latent.Input("latent"),
                latents_input(0, "pinned_latents of Loop Controller: 0 in the first window, where nothing is dropped."),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
        )

    @classmethod
    def execute(cls, latent: Any, latents: int) -> io.NodeOutput:
        return io.NodeOutput(trim(latent, latents))


class LongTalkLatentCrossfade(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkLatentCrossfade",
            display_name="Latent Crossfade (LongTalk)",
            category=CATEGORY,
            description="Joins two windows and blends their overlap, the end of the first with the start of the "
            "second. Where both are equal nothing changes. The noise masks are dropped.",
            search_aliases=["blend latents", "join latents", "overlap"],
            inputs=[
                io.Latent.Input("first", tooltip="What there is so far."),
                io.Latent.Input("second", tooltip="The next window, its overlap still at its start."),
                latents_input(0, "overlap_latents of Loop Controller. 0 puts one after the other."),
                io.Combo.Input(
                    "curve",
                    options=Curve,
                    default=Curve.COSINE,
                    tooltip="cosine: a soft start and end. linear: the same step at every latent.",
                ),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
        )

    @classmethod
    def execute(cls, first: Any, second: Any, latents: int, curve: str) -> io.NodeOutput:
        return io.NodeOutput(crossfade(first, second, latents, curve))


class LongTalkLatentPin(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkLatentPin",
            display_name="Latent Pin (LongTalk)",
            category=CATEGORY,
            description="Puts the end of what there is at the start of a window's latent, under a noise mask that "
            "holds it there, so that the window goes on from it.",
            search_aliases=["overlap", "noise mask", "extend video", "temporal mask"],
            inputs=[
                io.Latent.Input(
                    "latent", tooltip="Of this window: EmptyLTXVLatentVideo, or LTXVImgToVideoInplace after it."
                ),
                io.Latent.Input("given", tooltip="As many latents as are pinned, from Latent Context."),
                latents_input(0, "pinned_latents of Loop Controller: 0 in the first window, which stays as it is."),
                share_input("strength", 1.0, "1 keeps them exactly; less lets the model change them."),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
        )

    @classmethod
    def execute(cls, latent: Any, given: Any, latents: int, strength: float) -> io.NodeOutput:
        return io.NodeOutput(pin(latent, given, latents, strength))


class LongTalkConditioningBlend(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkConditioningBlend",
            display_name="Conditioning Blend (LongTalk)",
            category=CATEGORY,
            description="Two prompts as one, by a weight. The shorter text is filled up and the longer one is not cut; "
            "pooled outputs and attention masks are mixed too.",
            search_aliases=["mix prompts", "conditioning average", "interpolate"],
            inputs=[
                io.Conditioning.Input("first"),
                io.Conditioning.Input("second"),
                share_input("weight", 0.5, "Share of the second: 0 is the first alone, 1 the second alone."),
            ],
            outputs=[io.Conditioning.Output(display_name="conditioning")],
        )

    @classmethod
    def execute(cls, first: Any, second: Any, weight: float) -> io.NodeOutput:
        weight = check_number(weight, "weight", 0.0, 1.0)
        return io.NodeOutput(blend_conditioning([(first, 1 - weight), (second, weight)]))


class LongTalkConditioningAt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkConditioningAt",
            display_name="Conditioning At (LongTalk)",
            category=CATEGORY,
            description="The prompt of one iteration, from a list: encode all prompts before the loop, as a text "
            "encoder inside it would push the video model out of memory. Past the end of the list, its last.",
            search_aliases=["select conditioning", "prompt by index", "prompt list"],
            is_input_list=True,
            inputs=[
                io.Conditioning.Input(
                    "conditionings", tooltip="A list, from Create List for example; a single one is used throughout."
                ),
                io.Int.Input("iteration", default=0, min=0, max=ITERATION_MAX, tooltip="The loop's counter, from 0."),
            ],
            outputs=[io.Conditioning.Output(display_name="conditioning")],
        )

    @classmethod
    def execute(cls, conditionings: list[Any], iteration: list[int]) -> io.NodeOutput:
        if not conditionings or len(iteration) != 1:
            raise LinkError(
                "conditionings and iteration",
                expected="at least one conditioning, and one number",
                actual=f"{len(conditionings)} and {len(iteration)}",
                action="Connect the list to 'conditionings' and the loop's counter to 'iteration'",
            )
        index = check_whole(iteration[0], "iteration", 0, ITERATION_MAX)
        return io.NodeOutput(conditionings[min(index, len(conditionings) - 1)])


class LongTalkFrameAt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkFrameAt",
            display_name="Frame At (LongTalk)",
            category=CATEGORY,
            description="The frame of an image batch or of a video at a time. Of a video file only what is needed is "
            "decoded, however long it is.",
            search_aliases=["video frame", "image at time", "extract frame"],
            inputs=[
                io.Float.Input(
                    "seconds",
                    default=0.0,
                    min=0.0,
                    max=TIME_MAX_S,
                    step=0.001,
                    tooltip="The frame that is shown at this time; times to the millisecond.",
                ),
                io.Float.Input(
                    "fps", default=25.0, min=0.01, max=FPS_MAX, step=0.001, tooltip="Of 'images'; a video has its own."
                ),
                io.Image.Input("images", optional=True),
                io.Video.Input("video", optional=True, tooltip="Instead of images."),
            ],
            outputs=[io.Image.Output(display_name="image")],
        )

    @classmethod
    def execute(cls, seconds: float, fps: float, images: Any = None, video: Any = None) -> io.NodeOutput:
        if (images is None) == (video is None):
            raise LinkError(
                "images",
                expected="either 'images' or 'video'",
                actual="neither" if images is None else "both connected",
                action="Connect one of them",
            )
        if video is None:
            return io.NodeOutput(_picked(images, seconds, fps))
        if not isinstance(video, Input.Video):
            raise LinkError("video", expected="a VIDEO", actual=described(video), action="Connect Load Video")
        if isinstance(video, InputImpl.VideoFromComponents):  # in memory as it is; any other way would encode it first
            parts = video.get_components()
            return io.NodeOutput(_picked(parts.images, seconds, float(parts.frame_rate)))
        start_s, duration_s = video.get_active_trim_window()
        return io.NodeOutput(to_image(video_frame(video.get_stream_source(), seconds, start_s, duration_s)))


def _picked(images: Any, seconds: float, fps: float) -> torch.Tensor:
    index = frame_number(seconds, fps, image_batch("images", images).shape[0])
    return images[index : index + 1].clone()


class LongTalkPurgeVRAM(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        anything = io.MatchType.Template("anything")
        return io.Schema(
            node_id="LongTalkPurgeVRAM",
            display_name="Purge VRAM (LongTalk)",
            category=CATEGORY,
            description="Passes its input on and unloads all models at that point, those included that are gone but "
            "still listed, which end in \"'NoneType' object has no attribute 'model_size'\".",
            search_aliases=["unload models", "free memory", "clear vram", "model_size"],
            inputs=[io.MatchType.Input("anything", anything, tooltip="Anything; it comes out as it is.")],
            outputs=[
                io.MatchType.Output(anything, display_name="anything"),
                io.String.Output(display_name="report"),
            ],
        )

    @classmethod
    def execute(cls, anything: Any) -> io.NodeOutput:
        return io.NodeOutput(anything, purge())
