"""What the nodes that hand out the video of a run share: their outputs, and that they notice when a file is lost."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import InputImpl, io
from comfy_execution.graph_utils import ExecutionBlocker

from ..infinitetalk.host.handed_out import HANDED_OUT
from ..infinitetalk.host.session import Result

NO_IMAGES = "Turn on return_images to get the frames as an IMAGE batch (they need a lot of memory)."


class VideoNode(io.ComfyNode):
    """A node that gives a file-backed VIDEO: it is executed again once that file is gone or another one."""

    @classmethod
    def fingerprint_inputs(cls, **constants: Any) -> str:
        return HANDED_OUT.fingerprint(cls.__name__, constants)


def sampler_outputs() -> list[Any]:
    return [
        io.Video.Output(display_name="video", tooltip="A file: connect Save Video, it copies without re-encoding."),
        io.Image.Output(display_name="images", tooltip="Only with return_images."),
        io.String.Output(display_name="report"),
    ]


def hand_out(result: Result) -> io.NodeOutput:
    """The output of a :class:`VideoNode`."""
    HANDED_OUT.note(result.video.path)
    video = InputImpl.VideoFromFile(str(result.video.path))
    images = result.images if result.images is not None else ExecutionBlocker(NO_IMAGES)
    return io.NodeOutput(video, images, result.report, ui={"text": (result.report,)})
