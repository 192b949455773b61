"""Component vllm/qwen3: vLLM decodes, from prompts that are embeddings already."""

from __future__ import annotations

import itertools
import math
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch

from canary_hub.errors import HubError
from canary_hub.models.canary_qwen.llm import load_tokenizer
from canary_hub.models.causal_lm.backend import CausalLMBackend, Tokens
from canary_hub.specs import Options
from canary_hub.stages import Build, RowStop, Step
from canary_hub.weights.tensors import TensorFiles

from .export import exported
from .options import VllmBuild, VllmCall
from .plan import logits_of, prompts, require_room, sampling, settings

EMBEDDINGS = "model.embed_tokens.weight"


class Embedder(torch.nn.Module):
    """The only part of the LLM that stays in this process: prompts are embedded before vLLM gets them."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.model = torch.nn.Module()
        self.model.embed_tokens = torch.nn.Embedding.from_pretrained(table)


class VllmBackend(CausalLMBackend):
    """Qwen3 with the LoRA update merged, in vLLM; the adapter cannot be switched off.

    vllm: a `vllm.LLMEngine` with prompt embeddings enabled.
    llm_bytes, parameters: of the weights that vLLM loaded, which lie in its own process.
    """

    def __init__(
        self, vllm: Any, embedder: Embedder, tokenizer: Tokens, max_model_len: int, llm_bytes: int, parameters: int
    ) -> None:
        super().__init__(embedder, tokenizer)
        self.nbytes += llm_bytes
        self.parameters = parameters
        self.max_model_len = max_model_len
        self._vllm = vllm
        self._names = map(str, itertools.count())
        self._lock = threading.Lock()

    def generate(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor,
        options: Options,
        stop: RowStop | None = None,
        attention: bool = False,
    ) -> Iterator[Step]:
        """(B, L, H), (B, L) left-padded -> one `Step` per token, without attention, which vLLM keeps to itself; its
        logits are those of `logits_of`. One generation at a time.

        Raises: OptionError for more positions than `max_model_len`; HubError where vLLM fails.
        """
        assert isinstance(options, VllmCall)
        rows = prompts(inputs_embeds, attention_mask)
        require_room(max(map(len, rows)), options.max_new_tokens, self.max_model_len)
        with self._lock:
            running = {next(self._names): row for row in range(len(rows))}
            try:
                with _reported():
                    self._add(running, rows, options)
                yield from self._steps(running, len(rows), stop)
            finally:
                with suppress(Exception):  # it may have died, which was reported then
                    self._vllm.abort_request(list(running))

    def _add(self, running: Mapping[str, int], rows: list[torch.Tensor], options: VllmCall) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        for name, row in running.items():
            params = SamplingParams(**sampling(options, self.eos_ids), output_kind=RequestOutputKind.DELTA)
            self._vllm.add_request(name, {"prompt_embeds": rows[row]}, params)

    def _steps(self, running: dict[str, int], batch: int, stop: RowStop | None) -> Iterator[Step]:
        """vLLM writes each row at its own pace: a step waits for the slowest.

        running: request -> row; what has ended is taken out.
        """
        new: list[list[int]] = [[] for _ in range(batch)]
        waiting: list[deque[tuple[int, Mapping[int, float]]]] = [deque() for _ in range(batch)]
        open_rows = dict(enumerate(running))
        vocabulary = self.model.model.embed_tokens.num_embeddings
        while open_rows:
            while any(name in running and not waiting[row] for row, name in open_rows.items()):
                with _reported():
                    outputs = self._vllm.step()
                for output in outputs:
                    self._take(output, running, waiting)
            written = {row: waiting[row].popleft() for row in open_rows if waiting[row]}
            if written:
                ids = tuple(written[row][0] if row in written else None for row in range(batch))
                best = [written[row][1] if row in written else None for row in range(batch)]
                chosen = (math.nan if known is None else known[id] for id, known in zip(ids, best, strict=True))
                yield Step(ids, tuple(chosen), logits_of(best, vocabulary))
            for row, name in list(open_rows.items()):
                new[row] += [written[row][0]] if row in written else []
                if stop is not None and row in written and stop(row, new[row]):
                    if running.pop(name, None) is not None:
                        self._vllm.abort_request([name])
                    del open_rows[row]
                elif name not in running and not waiting[row]:
                    del open_rows[row]

    def _take(
        self, output: Any, running: dict[str, int], waiting: list[deque[tuple[int, Mapping[int, float]]]]
    ) -> None:
        """Put a `RequestOutput`'s new tokens into its row's queue."""
        row = running.get(output.request_id)
        if row is None:  # written before vLLM heard that it was to stop
            return
        (written,) = output.outputs
        for id, known in zip(written.token_ids, written.logprobs or (), strict=True):
            waiting[row].append((id, {token: given.logprob for token, given in known.items()}))
        if output.finished:
            del running[output.request_id]
            if written.finish_reason not in ("stop", "length"):
                raise HubError(f"vLLM gave up on a segment: {written.finish_reason}.", "Its log says why.")


@contextmanager
def _reported() -> Iterator[None]:
    """What vLLM raises, as an error that a user can act on."""
    try:
        yield
    except Exception as error:
        raise HubError(
            f"vLLM failed: {error}",
            "Its log says more. It needs a GPU with memory to spare: gpu_memory_utilization is the share it takes, "
            "max_model_len the longest row. canary/qwen3 runs without it.",
        ) from error


def build(build: Build) -> VllmBackend:
    """Factory: writes the merged LLM where it is not there yet, and starts vLLM on it."""
    assert isinstance(build.options, VllmBuild)
    with _reported():
        from vllm import EngineArgs, LLMEngine
    tokenizer = load_tokenizer(build)
    folder = exported(build)
    files = TensorFiles(folder)
    with _reported():
        vllm = LLMEngine.from_engine_args(EngineArgs(**settings(folder, build.dtype, build.options)))
    parameters = sum(math.prod(shape) for shape in files.values())
    dtype: torch.dtype = getattr(torch, build.dtype)
    embedder = Embedder(files.tensor(EMBEDDINGS).to(build.device))
    return VllmBackend(vllm, embedder, tokenizer, build.options.max_model_len, parameters * dtype.itemsize, parameters)
