"""The part of `mini` that learns: projector and LLM. The ears are frozen and stand in `ears.py`."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen3Config, Qwen3ForCausalLM

from .ears import STACK


@dataclass(frozen=True)
class Sizes:
    """Everything that decides a shape. These are `mini`'s: 11.9 million in the LLM, 1.5 in the projector."""

    vocabulary: int = 4096
    hidden: int = 384
    layers: int = 6
    heads: int = 6
    kv_heads: int = 2
    head_dim: int = 64
    inner: int = 1152
    states: int = 384
    """d_model of the encoder."""
    projector: int = 768

    def llm_config(self) -> Qwen3Config:
        """The LLM's config.json."""
        return Qwen3Config(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.inner,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=self.head_dim,
            max_position_embeddings=2048,
            rope_theta=10_000.0,
            tie_word_embeddings=True,
            attention_bias=False,
            use_cache=False,
        )


class Projector(nn.Module):
    """(B, M, 4 d_model) -> (B, M, hidden): one audio frame from 80 ms of encoder states."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.inner = nn.Linear(STACK * sizes.states, sizes.projector)
        self.norm = nn.LayerNorm(sizes.projector)
        self.outer = nn.Linear(sizes.projector, sizes.hidden)

    def features(self, stacked: Tensor) -> Tensor:
        """(B, M, 4 d_model) -> (B, M, projector): what the last linear reads; the bridge solves that one."""
        out: Tensor = self.norm(F.gelu(self.inner(stacked)))
        return out

    def forward(self, stacked: Tensor) -> Tensor:
        """(B, M, 4 d_model) -> (B, M, hidden)."""
        out: Tensor = self.outer(self.features(stacked))
        return out


class Mini(nn.Module):
    """Projector, LLM and the CTC reading that helps to train them.

    The CTC head is the embedding table itself: a frame's logit for a token is the product of the frame's embedding and
    the token's. So frames come to lie where the tokens are that they say, which is what the LLM learnt to copy from,
    and what the details view shows as nearest tokens. Blank is the placeholder's row, which no text contains.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.proj = Projector(sizes)
        self.llm = Qwen3ForCausalLM(sizes.llm_config())
        self.ctc_scale = nn.Parameter(torch.tensor(3.0))
        self.ctc_bias = nn.Parameter(torch.zeros(sizes.vocabulary))

    @property
    def blank(self) -> int:
        """The placeholder's id, the last of the table."""
        return self.sizes.vocabulary - 1

    @property
    def table(self) -> Tensor:
        """The embeddings (vocabulary, hidden), tied to the head."""
        weight: Tensor = self.llm.get_input_embeddings().weight
        return weight

    def ctc_logits(self, frames: Tensor, still: bool = False) -> Tensor:
        """Frames' embeddings (..., hidden) -> (..., vocabulary). `still`: the embedding table learns nothing by it."""
        table = self.table.detach() if still else self.table
        return frames @ table.T * self.ctc_scale.exp() + self.ctc_bias

    def hidden_states(self, embeds: Tensor) -> Tensor:
        """(B, L, hidden) -> (B, L, hidden): one causal pass. Rows are padded on the right, which no token before sees,
        so that there is no mask and the fast attention is taken.
        """
        out: Tensor = self.llm.model(inputs_embeds=embeds, use_cache=False).last_hidden_state
        return out

    def text_loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy over the positions whose target is not -100.

        Args:
            hidden: (B, L, hidden).
            targets: (B, L), what each position shall predict.
        """
        wanted = targets != -100
        logits = hidden[wanted] @ self.table.T
        return F.cross_entropy(logits.float(), targets[wanted])

    def ctc_loss(
        self, frames: Tensor, lengths: Tensor, texts: Tensor, text_lengths: Tensor, still: bool = False
    ) -> Tensor:
        """The CTC loss per token; a clip in which nobody speaks counts as if it had a token in 8 frames.

        Args:
            frames: (B, M, hidden), lengths (B,).
            texts: (B, L) token ids, text_lengths (B,).
        """
        logs = self.ctc_logits(frames, still).float().log_softmax(-1).transpose(0, 1)
        each = F.ctc_loss(logs, texts, lengths, text_lengths, self.blank, "none", zero_infinity=True)
        return each.sum() / torch.where(text_lengths > 0, text_lengths, lengths / 8).sum()

    def describe(self) -> dict[str, int]:
        """The sizes, for the state file."""
        return asdict(self.sizes)


def build(sizes: Sizes, seed: int = 0) -> Mini:
    """A fresh model; the same for the same seed."""
    torch.manual_seed(seed)
    return Mini(sizes)
