"""Segmenter silero/vad: the longest pause within reach, where no speech is heard, however loud it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from canary_hub.audio.waveform import Samples, Waveform

RATE = 16_000
FRAME = 512  # samples of one probability of speech: 32 ms
LEAD = 2.0
"""Seconds heard before the first place to cut, so that the detector knows the room."""


class SileroVad:
    """A `canary_hub.audio.pauses.Segmenter`. The model keeps nothing between two calls, so threads may share it."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, wave: Waveform, first: int, last: int) -> int:
        """The middle of the longest pause in [first, last], of equally long ones the later; where all is speech,
        where that is least certain."""
        begin = max(0, first - round(LEAD * wave.rate))
        heard = at_16_khz(wave.samples[begin:last], wave.rate)
        chances = self.model.audio_forward(heard)
        per_sample = RATE / wave.rate
        low, high = (first - begin) * per_sample, (last - begin) * per_sample
        pauses = [(max(start, low), min(end, high)) for start, end in self._pauses(chances, len(heard))]
        start, end = max(pauses, key=lambda pause: (pause[1] - pause[0], pause[1]), default=(0.0, 0.0))
        if end <= start:
            start, end = _least_certain(chances, low, high)
        return min(last, max(first, begin + round((start + end) / 2 / per_sample)))

    def _pauses(self, chances: Samples, total: int) -> list[tuple[float, float]]:
        """What lies before, between and after the stretches of speech, in samples at 16 kHz; 0.1 s at least."""
        from silero_vad import get_speech_timestamps_from_probs

        # The shortest word counts: by default speech below 0.25 s would be a part of the pause.
        spoken = get_speech_timestamps_from_probs(chances, min_speech_duration_ms=0, audio_length_samples=total)
        ends = [0, *(stretch["end"] for stretch in spoken)]
        starts = [*(stretch["start"] for stretch in spoken), total]
        return list(zip(ends, starts, strict=True))


def build() -> SileroVad:
    """The model in silero-vad's package, run by ONNX Runtime on 16 s of audio at a time.

    The package's other way, torch.jit frame by frame, is deprecated in torch, slower, and no two threads may share it.
    """
    import torch

    threads = torch.get_num_threads()
    from silero_vad import load_silero_vad  # which sets torch to one thread, in the whole process

    torch.set_num_threads(threads)
    return SileroVad(load_silero_vad(sequence=True))


def at_16_khz(samples: Samples, rate: int) -> Samples:
    """(S,) at `rate` Hz -> (S',) at 16 kHz."""
    import numpy as np

    from canary_hub.audio.resample import Resampler

    resampler = Resampler(rate, RATE)
    return np.concatenate([resampler.feed(samples), resampler.finish()])


def _least_certain(chances: Samples, low: float, high: float) -> tuple[float, float]:
    """The frame, in samples at 16 kHz, with the smallest mean probability of speech over five frames."""
    import numpy as np

    smooth = np.convolve(np.pad(chances, 2, mode="edge"), np.ones(5), mode="valid")
    start = min(int(low // FRAME), len(chances) - 1)
    frame = start + int(np.argmin(smooth[start : max(start + 1, int(high // FRAME))]))
    return frame * FRAME, (frame + 1) * FRAME
