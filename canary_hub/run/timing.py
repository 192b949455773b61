"""When each token was spoken, estimated from the attention of the generated tokens to the audio frames.

The way of whisper's word timestamps (github.com/openai/whisper, timing.py): pick heads that follow the
audio, average them, and run a monotone path through the picture. Whisper ships a list of heads per model;
here they are chosen on the clip itself by how steadily they move forward, so any checkpoint works, and the path's
peaks, which lie inside the words, are moved to where the sound rises before them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]

HEADS = 3
REACH = 0.7
"""A word begins at most so many seconds before the peak of its attention."""


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
    """The frame each token looks at, never going back, and the picture it was read from.

    Args:
        attention: (heads, tokens, frames): weights of each generated token on the audio frames.

    Returns: a frame per token, and the chosen heads' mean (tokens, frames).
    """
    import numpy as np

    rows = attention / np.maximum(attention.sum(axis=-1, keepdims=True), 1e-9)
    picture = rows[choose_heads(rows)].mean(axis=0)
    return monotone_path(np.log(picture + 1e-4)), picture.astype(np.float32)


def monotone_path(gain: NDArray[np.floating]) -> list[int]:
    """A column for every row, never going back, with the largest sum of gains (Viterbi).

    Args:
        gain: (tokens, frames).
    """
    import numpy as np

    tokens, frames = gain.shape
    best = gain[0]
    came = np.zeros((tokens, frames), dtype=int)
    for i in range(1, tokens):
        so_far = np.maximum.accumulate(best)
        came[i] = np.maximum.accumulate(np.where(best == so_far, np.arange(frames), 0))
        best = so_far + gain[i]
    at = int(best.argmax())
    path = [at]
    for i in range(tokens - 1, 0, -1):
        at = int(came[i, at])
        path.append(at)
    return path[::-1]


def onsets(peaks: Sequence[float], loudness: NDArray[np.floating], rate: float) -> list[float]:
    """Where words begin, from points inside them: the rise out of the quietest place before each.

    A token's attention peaks inside its word, a word's middle rather than its start, and frames are
    coarse. Between one peak and the one before lies the boundary: at the loudness's lowest point, and then
    where it has risen a third of the way up again.

    Args:
        peaks: seconds, one inside each word, in order.
        loudness: (T,) on any scale, `rate` values a second.
    """
    import numpy as np

    smooth = np.convolve(loudness, np.ones(5) / 5, mode="same")
    quiet, loud = np.percentile(smooth, [10, 90])
    sounding = smooth >= quiet + (loud - quiet) / 3
    starts = []
    before = 0.0
    for peak, following in zip(peaks, [*peaks[1:], len(smooth) / rate], strict=True):
        first, last = max(int(before * rate), int((peak - REACH) * rate), 0), int(peak * rate)
        if not sounding[last : last + 1].any():  # the peak lies in a pause: the word begins after it
            later = sounding[last : int(following * rate)]
            last += int(later.argmax()) + 1 if later.any() else 0
        part = smooth[first : max(first + 1, last)]
        low = int(part.argmin())
        rise = part[low:]
        starts.append((first + low + int((rise >= rise[0] + (rise.max() - rise[0]) / 3).argmax())) / rate)
        before = peak
    return starts


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
