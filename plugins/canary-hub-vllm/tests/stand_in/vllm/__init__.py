"""Stands in for vLLM in the tests: what canary_hub_vllm uses of its interface, over transformers on the CPU.

Requests advance two at a time, in turn, some by two tokens at once: vLLM promises no common pace either.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from .sampling_params import RequestOutputKind, SamplingParams

__all__ = ["EngineArgs", "LLMEngine", "SamplingParams"]


@dataclass
class EngineArgs:
    model: str
    dtype: str = "auto"
    max_model_len: int | None = None
    gpu_memory_utilization: float = 0.9
    enable_prompt_embeds: bool = False
    enable_prefix_caching: bool | None = None
    skip_tokenizer_init: bool = False
    max_logprobs: int = 20
    logprobs_mode: str = "raw_logprobs"
    disable_log_stats: bool = False


@dataclass
class Logprob:
    logprob: float


@dataclass
class CompletionOutput:
    token_ids: list[int]
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None


@dataclass
class RequestOutput:
    request_id: str
    outputs: list[CompletionOutput]
    finished: bool


@dataclass
class Request:
    name: str
    embeds: torch.Tensor
    params: SamplingParams
    draw: torch.Generator = field(default_factory=torch.Generator)


class LLMEngine:
    """One at a time, the last one made, is `running`; as in vLLM its weights are held elsewhere than in the object."""

    running: Any = None
    models: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, args: EngineArgs) -> None:
        assert args.enable_prompt_embeds
        self.args = args
        self.models[args.model] = AutoModelForCausalLM.from_pretrained(args.model, dtype=getattr(torch, args.dtype))
        self.requests: deque[Request] = deque()
        self.aborted: list[str] = []
        type(self).running = self

    @classmethod
    def from_engine_args(cls, engine_args: EngineArgs) -> LLMEngine:
        return cls(engine_args)

    def add_request(self, request_id: str, prompt: dict[str, torch.Tensor], params: SamplingParams) -> str:
        embeds = prompt["prompt_embeds"]
        assert embeds.ndim == 2
        assert embeds.device.type == "cpu"
        assert len(embeds) < self.args.max_model_len
        assert params.logprobs <= self.args.max_logprobs
        assert request_id not in {request.name for request in self.requests}
        assert params.output_kind is RequestOutputKind.DELTA
        assert not params.detokenize  # there is no tokenizer
        request = Request(request_id, embeds, params)
        request.draw.manual_seed(params.seed or 0)
        self.requests.append(request)
        return request_id

    def abort_request(self, request_ids: list[str]) -> None:
        self.aborted += request_ids
        self.requests = deque(request for request in self.requests if request.name not in request_ids)

    @torch.inference_mode()
    def step(self) -> list[RequestOutput]:
        outputs = []
        for _ in range(min(2, len(self.requests))):
            request = self.requests.popleft()
            outputs.append(self._advance(request, 1 + int(request.name) % 2))
            if not outputs[-1].finished:
                self.requests.append(request)
        return outputs

    def _advance(self, request: Request, tokens: int) -> RequestOutput:
        model, params = self.models[self.args.model], request.params
        ids: list[int] = []
        logprobs: list[dict[int, Logprob]] = []
        reason = None
        while reason is None and len(ids) < tokens:
            logits = model(inputs_embeds=request.embeds[None]).logits[0, -1].float()
            if params.temperature:
                id = int(torch.multinomial((logits / params.temperature).softmax(-1), 1, generator=request.draw))
            else:
                id = int(logits.argmax())
            every = logits.log_softmax(-1)
            known = {*every.topk(params.logprobs).indices.tolist(), id}
            ids.append(id)
            logprobs.append({token: Logprob(float(every[token])) for token in known})
            request.embeds = torch.cat([request.embeds, model.get_input_embeddings()(torch.tensor([id]))])
            params.max_tokens -= 1
            full = params.max_tokens == 0 or len(request.embeds) >= self.args.max_model_len
            reason = "stop" if id in params.stop_token_ids else "length" if full else None
        return RequestOutput(request.name, [CompletionOutput(ids, logprobs, reason)], reason is not None)
