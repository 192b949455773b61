"""When each token was spoken, estimated from the attention of the generated tokens to the audio frames.

The way of whisper's word timestamps (github.com/openai/whisper, timing.py): pick heads that follow the
audio, average them, and run a monotone path (dynamic time warping) through the picture. Whisper ships a list of
heads per model; here they are chosen on the clip itself by how steadily they move forward, so any
checkpoint works.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]

HEADS = 3


def choose_heads(attention: Matrix, count: int = HEADS) -> list[int]:
    """The heads that follow the audio best.

    A head's score is how well the token's place in the text predicts where the head looks (correlation
    of the token's index with its centre of attention), times how sharply it looks (the weight of its
    strongest frame and the two beside it).

    Args:
        attention: (heads, tokens, frames), rows normalised over the frames.
    """
    import numpy as np

    heads, tokens, frames = attention.shape
    centre = attention @ np.arange(frames, dtype=np.float32)
    padded = np.pad(attention, ((0, 0), (0, 0), (1, 1)))
    sharp = (padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]).max(axis=-1).mean(axis=-1)
    if tokens < 3 or frames < 2:
        follows = np.ones(heads)
    else:
        index = np.arange(tokens) - (tokens - 1) / 2
        moved = centre - centre.mean(axis=1, keepdims=True)
        spread = np.sqrt((moved**2).sum(axis=1) * (index**2).sum()) + 1e-9
        follows = (moved @ index) / spread
    return [int(head) for head in np.argsort(-(follows * sharp), kind="stable")[:count]]


def token_frames(attention: Matrix) -> tuple[list[int], Matrix]:
    """A frame for every token, never going back, and the picture it was read from.

    Args:
        attention: (heads, tokens, frames): weights of each generated token on the audio frames.

    Returns: the first frame of each token on the path, and the chosen heads' mean (tokens, frames).
    """
    import numpy as np

    rows = attention / np.maximum(attention.sum(axis=-1, keepdims=True), 1e-9)
    picture = rows[choose_heads(rows)].mean(axis=0)
    # Frames that every token looks at tell nothing: each frame is normalised over the tokens.
    contrast = (picture - picture.mean(axis=0)) / (picture.std(axis=0) + 1e-6 + picture.std() * 0.1)
    return monotone_path(-contrast), picture.astype(np.float32)


def monotone_path(cost: NDArray[np.floating]) -> list[int]:
    """Dynamic time warping: the first column of each row on the cheapest path from corner to corner.

    Args:
        cost: (tokens, frames). Every step goes one frame on, one token on, or both.
    """
    import numpy as np

    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    came = np.zeros((rows, columns), dtype=np.int8)
    for i in range(rows):
        for j in range(columns):
            before = (total[i, j], total[i, j + 1], total[i + 1, j])  # both, token, frame
            came[i, j] = best = int(np.argmin(before))
            total[i + 1, j + 1] = cost[i, j] + before[best]
    first = [0] * rows
    i, j = rows - 1, columns - 1
    while i >= 0 and j >= 0:
        first[i] = j
        step = int(came[i, j])
        i, j = i - (step != 2), j - (step != 1)
    return first


def words_of(texts: Sequence[str]) -> list[tuple[str, int, int]]:
    """Token texts -> (word, first token, token after the last): cut where white space begins a token.

    Tokens without any text (control tokens) belong to no word.
    """
    words: list[tuple[str, int, int]] = []
    for i, text in enumerate(texts):
        if not text.strip():
            continue
        if words and words[-1][2] == i and not text[0].isspace():
            word, first, _ = words[-1]
            words[-1] = (word + text, first, i + 1)
        else:
            words.append((text.lstrip(), i, i + 1))
    return [(word.strip(), first, stop) for word, first, stop in words]
