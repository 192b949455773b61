"""Whisper's decoder as an LLM backend: it looks at the audio from outside its sequence, by cross-attention.

The audio embeddings come injected into the prompt, as for every backend. Which positions are theirs, the spans say:
those become `encoder_hidden_states`, the rest is what the decoder continues.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache
from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor

from ...errors import HubError
from ...specs import Options
from ...stages import Build, RowStop, Segment, Spans, Step
from ...weights.tensors import module_bytes, parameter_count
from ..causal_lm.decoding import decode
from .checkpoint import WhisperCheckpoint
from .options import WhisperCall
from .prompts import START, WITHOUT_TIMES
from .tokenizer import NO_SPEECH, WhisperTokenizer

MAX_POSITIONS = 448
"""Prompt and answer together, in tokens."""


class WhisperDecoder:
    """Decodes with transformers' `WhisperDecoder`; its embeddings are also its head.

    generation: the checkpoint's generation_config.json.
    """

    def __init__(self, decoder: Any, tokenizer: WhisperTokenizer, generation: dict[str, Any]) -> None:
        self.decoder = decoder
        self.tokenizer = tokenizer
        self.nbytes = module_bytes(decoder)
        self.parameters = parameter_count(decoder)
        self.never = torch.tensor(generation.get("suppress_tokens") or [], dtype=torch.long)
        self.never_first = torch.tensor(generation.get("begin_suppress_tokens") or [], dtype=torch.long)
        self._latest_first = generation.get("max_initial_timestamp_index")
        self._alignment: list[list[int]] = generation.get("alignment_heads") or []

    @property
    def placeholder_id(self) -> int:
        """The id that stands for the audio slot."""
        return self.tokenizer.placeholder_id

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """The id that ends an answer."""
        return self.tokenizer.eos_ids

    def tokenize(self, segments: Sequence[Segment]) -> list[int]:
        """Prompt pieces -> ids. Raises: OptionError for a language that the model does not know."""
        return self.tokenizer.encode(segments)

    @torch.inference_mode()
    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """(..., L) int64 -> (..., L, H), without the positions, which the decoder adds."""
        table = self.decoder.embed_tokens
        embeds: torch.Tensor = table(ids.to(table.weight.device))
        return embeds

    def generate(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor,
        options: Options,
        stop: RowStop | None = None,
        spans: Spans = (),
        attention: bool = False,
    ) -> Iterator[Step]:
        """(B, L, H), (B, L) left-padded -> one `Step` per token; logits are those after the suppressed tokens.

        Args:
            spans: where each row's audio stands in L.
            attention: what the alignment heads see of the audio, at the audio's positions in L.

        Raises: HubError for rows whose prompts differ in length.
        """
        assert isinstance(options, WhisperCall)
        heard = _Heard(inputs_embeds, attention_mask, spans)
        listener = _Listener(self.decoder, heard, self._heads() if attention else [])
        steps = decode(
            listener,
            heard.prompts,
            torch.ones(heard.prompts.shape[:2], dtype=torch.bool),
            eos_ids=self.eos_ids,
            pad_id=self.tokenizer.pad_id,
            max_new_tokens=min(options.max_new_tokens, MAX_POSITIONS - heard.prompts.shape[1]),
            temperature=options.temperature,
            seed=options.seed,
            stop=stop,
            adjust=_Rules(self, listener, heard, options.no_speech),
        )
        for step in steps:
            yield replace(step, attention=heard.placed(listener.seen)) if attention else step

    def time_rules(self) -> WhisperTimeStampLogitsProcessor | None:
        """Times come in pairs and never go back; None for a tokenizer without times."""
        without = self.tokenizer.known(WITHOUT_TIMES)
        if without is None:
            return None
        config = SimpleNamespace(
            no_timestamps_token_id=without,
            eos_token_id=self.eos_ids[0],
            bos_token_id=self.eos_ids[0],
            max_initial_timestamp_index=self._latest_first,
        )
        return WhisperTimeStampLogitsProcessor(config, begin_index=0)

    def _heads(self) -> list[list[int]]:
        """[layer, head] pairs that follow the audio; where none are listed, all of the upper half of the layers."""
        layers, heads = len(self.decoder.layers), self.decoder.config.decoder_attention_heads
        return self._alignment or [[layer, head] for layer in range(layers // 2, layers) for head in range(heads)]

    def decode(self, ids: Sequence[int]) -> str:
        """New ids -> text."""
        return self.tokenizer.decode(ids)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text of each token alone."""
        return [self.tokenizer.piece(id) for id in ids]


class _Heard:
    """An injected batch taken apart again.

    audio: (B, N, H), zeros past a row's length. mask: (B, 1, 1, N) bool, None where all rows are of one length.
    prompts: (B, P, H), the embeddings of the control tokens.
    """

    def __init__(self, inputs_embeds: torch.Tensor, attention_mask: torch.Tensor, spans: Spans) -> None:
        rows, audio = [], []
        for embeds, inside, places in zip(inputs_embeds, attention_mask, spans, strict=True):
            is_audio = torch.zeros_like(inside)
            for first, end in places:
                is_audio[first:end] = True
            audio.append(embeds[is_audio])
            rows.append(embeds[inside & ~is_audio])
        if len({len(row) for row in rows}) != 1:
            raise HubError("Whisper's prompts in one batch must be equally long.", "Run them one by one.")
        self.prompts = torch.stack(rows)
        self.audio = torch.nn.utils.rnn.pad_sequence(audio, batch_first=True)
        lengths = torch.tensor([len(row) for row in audio], device=self.audio.device)
        inside = torch.arange(self.audio.shape[1], device=self.audio.device) < lengths[:, None]
        self.mask = None if bool(inside.all()) else inside[:, None, None]
        self._spans, self._positions = spans, inputs_embeds.shape[1]

    def placed(self, seen: torch.Tensor) -> torch.Tensor:
        """(B, heads, N) over the audio -> (B, heads, L) over the injected prompt, zero at the text."""
        out = seen.new_zeros(*seen.shape[:2], self._positions)
        for row, places in enumerate(self._spans):
            at = 0
            for first, end in places:
                out[row, :, first:end] = seen[row, :, at : at + end - first]
                at += end - first
        return out


class _Listener:
    """Whisper's decoder with its audio, in the shape in which `decode` calls a causal LM: `model`, `lm_head`, `config`.

    first: hidden states (B, P, H) of the prompt, from the first pass.
    seen: (B, heads, N), what the chosen heads of the last position saw of the audio.
    """

    def __init__(self, decoder: Any, heard: _Heard, heads: list[list[int]]) -> None:
        self._decoder, self._heard, self._heads = decoder, heard, heads
        self.embed_tokens = decoder.embed_tokens
        # A Whisper config counts the encoder's layers.
        self.config = copy(decoder.config)
        self.config.num_hidden_layers = len(decoder.layers)
        self._cross = DynamicCache(config=self.config)
        self._cache: Any = None
        self.first = self.seen = torch.zeros(0)

    @property
    def model(self) -> Any:
        """What `decode` calls, and asks for embeddings."""
        return self

    def __call__(self, ids: None, mask: None, positions: torch.Tensor, cache: Any, x: torch.Tensor, **_: Any) -> Any:
        """One pass: (B, L, H) -> `last_hidden_state` (B, L, H)."""
        if self._cache is None:
            self._cache = EncoderDecoderCache(cache, self._cross)
        decoder = self._decoder
        weights: list[torch.Tensor] | None = [] if self._heads else None
        x = x + decoder.embed_positions.weight[positions]
        for layer in decoder.layers:
            # By position: transformers 5.24 calls the fifth `cache`, 5.9 `past_key_values`.
            x = layer(
                x, None, self._heard.audio, self._heard.mask, self._cache, use_cache=True, canary_hub_weights=weights
            )
        if weights:  # of self-attention and cross-attention by turns
            self.seen = torch.stack([weights[2 * layer + 1][:, head] for layer, head in self._heads], dim=1)
        x = decoder.layer_norm(x)
        if not len(self.first):
            self.first = x
        return SimpleNamespace(last_hidden_state=x)

    def lm_head(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., H) -> (..., V)."""
        return torch.nn.functional.linear(hidden, self.embed_tokens.weight)


class _Rules:
    """What Whisper may not write: suppressed tokens, times out of order, and anything where nobody speaks.

    Source: openai/whisper decoding.py, `SuppressTokens`, `ApplyTimestampRules`, `no_speech_prob`.
    """

    def __init__(self, backend: WhisperDecoder, listener: _Listener, heard: _Heard, no_speech: float) -> None:
        self._backend, self._listener, self._threshold = backend, listener, no_speech
        self._start = self._position(heard.prompts[0], backend.tokenizer.known(START))
        timed = self._position(heard.prompts[0], backend.tokenizer.known(WITHOUT_TIMES)) is None
        self._times = backend.time_rules() if timed else None

    def _position(self, prompt: torch.Tensor, id: int | None) -> int | None:
        """Where a control token stands in the prompt (P, H), found by its embedding."""
        if id is None:
            return None
        found = (prompt == self._backend.decoder.embed_tokens.weight[id]).all(dim=-1).nonzero()
        return int(found[0]) if len(found) else None

    def __call__(self, new: Sequence[Sequence[int]], logits: torch.Tensor) -> torch.Tensor:
        """Ids so far by row, logits (B, V) -> logits with -inf for what may not be written."""
        backend = self._backend
        logits = logits.clone()
        logits[:, backend.never] = -torch.inf
        if not new[0]:
            logits[:, backend.never_first] = -torch.inf
        if self._times is not None:
            logits = self._times(torch.tensor(new, dtype=torch.long), logits)
        if not new[0]:
            silent = self._nobody_speaks()
            logits[silent] = -torch.inf
            logits[silent, backend.eos_ids[0]] = 0.0
        return logits

    def _nobody_speaks(self) -> torch.Tensor:
        """(B,) bool: where the model gives its token for silence more than the threshold, right after the start."""
        first, token = self._listener.first, self._backend.tokenizer.known(*NO_SPEECH)
        if self._start is None or token is None:
            return torch.zeros(len(first), dtype=torch.bool)
        odds = self._listener.lm_head(first[:, self._start]).float().softmax(dim=-1)[:, token]
        return odds > self._threshold


def build(build: Build) -> WhisperDecoder:
    """Factory of whisper/decoder. Raises: WeightsError."""
    checkpoint = WhisperCheckpoint(build)
    tokenizer = WhisperTokenizer(checkpoint.tokenizer, checkpoint.config.vocab_size, checkpoint.config.eos_token_id)
    return WhisperDecoder(checkpoint.decoder(), tokenizer, checkpoint.generation)
