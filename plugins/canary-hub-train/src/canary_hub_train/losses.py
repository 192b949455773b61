"""The loss of each phase, on one batch."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from .data import RATE, Batch
from .model import CHARS, IGNORE, SUB_FRAMES, Nano
from .phones import PAUSE, UNKNOWN
from .text import draw


def chars_of(text: str) -> list[int]:
    """Character ids, 1 up: 0 is CTC's blank."""
    return [CHARS.index(c) + 1 for c in text]


def _ctc(log_probs: torch.Tensor, lengths: torch.Tensor, targets: list[list[int]], blank: int) -> torch.Tensor:
    """Mean CTC loss per target symbol. log_probs (B, T, C); rows whose text cannot fit count as 0."""
    flat = torch.tensor([i for row in targets for i in row], dtype=torch.long, device=log_probs.device)
    sizes = torch.tensor([len(row) for row in targets], device=log_probs.device)
    losses = F.ctc_loss(
        log_probs.transpose(0, 1),
        flat,
        lengths.long(),
        sizes,
        blank=blank,
        reduction="none",
        zero_infinity=True,
    )
    return losses.sum() / sizes.clamp(min=1).sum()


def char_ctc(model: Nano, hidden: torch.Tensor, lengths: torch.Tensor, texts: list[str]) -> torch.Tensor:
    """CTC over characters, three frames to the encoder's one."""
    return _ctc(model.char_log_probs(hidden), lengths * SUB_FRAMES, [chars_of(t) for t in texts], 0)


def token_ctc(model: Nano, hidden: torch.Tensor, lengths: torch.Tensor, texts: list[str]) -> torch.Tensor:
    """CTC over the tokenizer's tokens at the encoder's own rate."""
    return _ctc(model.token_log_probs(hidden), lengths, [model.coder.encode(t) for t in texts], model.sizes.vocabulary)


def flat_start(model: Nano, hidden: torch.Tensor, lengths: torch.Tensor, texts: list[str]) -> torch.Tensor:
    """Frame-wise cross-entropy with the characters spread evenly over the clip.

    Wrong in detail, but it breaks CTC's plateau (all blank) within 200 steps.
    """
    log_probs = model.char_log_probs(hidden)
    targets = torch.full(log_probs.shape[:2], IGNORE, dtype=torch.long)
    for row, (text, length) in enumerate(zip(texts, lengths.tolist(), strict=True)):
        ids = chars_of(text)
        if ids:
            frames = int(length) * SUB_FRAMES
            targets[row, :frames] = torch.tensor(ids)[torch.arange(frames) * len(ids) // max(1, frames)]
    return F.nll_loss(log_probs.transpose(1, 2), targets.to(hidden.device), ignore_index=IGNORE)


def phones(model: Nano, layers: tuple[torch.Tensor, ...], batch: Batch) -> torch.Tensor:
    """Frame-wise cross-entropy with the phone that is said then; 0 where no clip of the batch knows its phones."""
    logits = model.phone_logits(layers)
    # The subsampling centres encoder frame n on log-mel frame 8 n, its sub-frames lie around that.
    times = (np.arange(logits.shape[1]) - SUB_FRAMES // 2) * 0.08 / SUB_FRAMES
    targets = np.full(logits.shape[:2], IGNORE, np.int64)
    for row, (said, length) in enumerate(zip(batch.spoken, batch.lengths, strict=True)):
        if said.phones is None or said.ends is None:
            continue
        known = np.append(np.where(said.phones == UNKNOWN, IGNORE, said.phones), PAUSE)
        inside = int(np.searchsorted(times, length / RATE))
        targets[row, :inside] = known[np.searchsorted(said.ends, times[:inside], side="right")]
    wanted = torch.from_numpy(targets).to(logits.device)
    # A sum over no frames is nan.
    return F.cross_entropy(logits.transpose(1, 2), wanted, ignore_index=IGNORE, reduction="sum") / (
        (wanted != IGNORE).sum().clamp(min=1)
    )


def _masks(seed: tuple[int, ...]) -> torch.Generator:
    return torch.Generator().manual_seed(hash(seed) % (1 << 62))


def audio_loss(model: Nano, batch: Batch, loss: str, seed: tuple[int, ...]) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of the phases that hear ("flat", "ctc", "joint"), and its parts for the log."""
    wav = torch.from_numpy(batch.wav).to(model.device)
    lengths = torch.from_numpy(batch.lengths).to(model.device)
    formants = None if batch.formants is None else torch.from_numpy(batch.formants)
    layers, frames = model.layers(wav, lengths, formants, None if loss == "flat" else _masks(seed))
    hidden = layers[-1]
    parts = {"phone": phones(model, layers, batch), "char": char_ctc(model, hidden, frames, batch.texts)}
    if loss == "flat":
        parts["flat"] = flat_start(model, hidden, frames, batch.texts)
    else:
        parts["token"] = token_ctc(model, hidden, frames, batch.texts)
    if loss == "joint":
        heard = model.proj(hidden)
        audio = [heard[i, :n] for i, n in enumerate(frames.tolist())]
        parts["lm"] = model.lm_loss(audio, batch.texts)
        total = parts["lm"] + 0.35 * parts["char"] + 0.15 * parts["token"] + 0.2 * parts["phone"]
    else:
        total = sum(parts.values(), torch.zeros((), device=model.device))
    return total, {name: float(value.detach()) for name, value in parts.items()}


def copy_loss(
    model: Nano, sentences: list[str], shares: dict[str, float], rng: np.random.Generator, rows: int = 32
) -> tuple[torch.Tensor, dict[str, float]]:
    """The LM learns to copy what CTC would put into the audio slot: repeats, blanks, some errors.

    Args:
        shares: kind of text -> how often it is drawn.
    """
    table, coder = model.embeddings, model.coder
    kinds = rng.choice(list(shares), size=rows, p=list(shares.values()))
    texts = [draw(rng, str(kind), sentences) for kind in kinds]
    texts = ["" if rng.random() < 0.06 else text for text in texts]
    audio = []
    for text in texts:
        stream = [-1] * int(rng.integers(0, 5))
        wrong = rng.uniform(0, 0.2) * (rng.random() < 0.7)
        for token in coder.encode(text):
            if rng.random() < wrong:
                token = int(rng.integers(coder.size))
            stream += [token] * int(rng.integers(1, 3)) + [-1] * int(rng.integers(0, 5))
        stream += [-1] * int(rng.integers(1, 5))
        ids = torch.tensor(stream, device=model.device)
        frames = torch.where((ids < 0)[:, None], model.blank, table(ids.clamp(min=0)))
        scale = float(table.weight.detach().std()) * rng.uniform(0, 0.5)
        shape = (len(stream), frames.shape[1])
        audio.append(frames + torch.from_numpy(rng.standard_normal(shape, np.float32)).to(model.device) * scale)
    loss = model.lm_loss(audio, texts)
    return loss, {"lm": float(loss.detach())}


@torch.no_grad()
def solve_projector(model: Nano, batches: list[Batch], ridge: float = 1.0) -> float:
    """Sets the projector by ridge regression: encoder frames -> the embedding that CTC expects there.

    The LM, which has learnt to copy such embeddings, then hears from the first step.

    Returns: R2 of the fit.
    """
    table = torch.cat([model.embeddings.weight, model.blank[None]])
    size = model.sizes.d_model + 1
    xx = torch.zeros(size, size, dtype=torch.float64)
    xy = torch.zeros(size, model.sizes.hidden, dtype=torch.float64)
    yy, y_sum, count = 0.0, torch.zeros(model.sizes.hidden, dtype=torch.float64), 0
    model.eval()
    for batch in batches:
        hidden, frames = model.encode(
            torch.from_numpy(batch.wav).to(model.device), torch.from_numpy(batch.lengths).to(model.device)
        )
        inside = torch.arange(hidden.shape[1], device=hidden.device)[None] < frames[:, None]
        x = torch.cat([hidden[inside].float(), torch.ones(int(inside.sum()), 1, device=hidden.device)], 1)
        y = model.token_log_probs(hidden)[inside].exp() @ table
        x, y = x.double().cpu(), y.double().cpu()
        xx, xy = xx + x.T @ x, xy + x.T @ y
        yy, y_sum, count = yy + float((y**2).sum()), y_sum + y.sum(0), count + len(y)
    model.train()
    solution = torch.linalg.solve(xx + ridge * torch.eye(size, dtype=torch.float64), xy)
    model.proj.weight.copy_(solution[:-1].T.to(model.proj.weight))
    model.proj.bias.copy_(solution[-1].to(model.proj.bias))
    rest = yy - 2 * float((solution * xy).sum()) + float((solution * (xx @ solution)).sum())
    return 1 - rest / (yy - float((y_sum**2).sum()) / count)
