"""Options of vllm/qwen3. No torch."""

from __future__ import annotations

from pydantic import Field

from canary_hub.models.causal_lm.options import GenerateCall
from canary_hub.specs import Options


class VllmBuild(Options):
    """How much of the GPU vLLM takes."""

    max_model_len: int = Field(
        4096, ge=64, le=40960, description="Most positions of a row: prompt, audio frames and answer together"
    )
    gpu_memory_utilization: float = Field(
        0.6, gt=0.0, le=1.0, description="Share of the GPU's memory that vLLM takes at once; the other stages need some"
    )


class VllmCall(GenerateCall):
    """How text is generated; greedy by default, as the model card asks."""

    max_new_tokens: int = Field(448, ge=1, le=4096, description="Longest answer per segment, in tokens")
