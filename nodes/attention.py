"""The measured attention, for any model."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..infinitetalk.attention.measured import Precision
from ..infinitetalk.host.attention import with_attention
from .inputs import CATEGORY


class LongTalkAttention(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongTalkAttention",
            display_name="Attention (LongTalk)",
            category=CATEGORY,
            description="The fastest attention kernel on this GPU that is exact enough, for any model: each one that "
            "is installed is tried at the real shape when the model first runs, compared with float32 and measured. "
            "The table is logged and kept. Sampler (LongTalk) does this by itself.",
            search_aliases=["sage attention", "flash attention", "cudnn", "speed"],
            inputs=[
                io.Model.Input("model"),
                io.Combo.Input(
                    "precision",
                    options=Precision,
                    default=Precision.EXACT,
                    tooltip="exact: error below 0.5 %. fast: below 3 %, which admits 8-bit kernels.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, model: Any, precision: str) -> io.NodeOutput:
        return io.NodeOutput(with_attention(model, precision))
