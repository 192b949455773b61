"""The nano that ships knows English sentences, through the product."""

from __future__ import annotations

import shutil

import jiwer
import numpy as np
import pytest
from canary_hub_train import tts
from canary_hub_train.voices import Voice

from canary_hub import Hub
from canary_hub.audio.waveform import Waveform

SENTENCES = ("they were in the house all night", "she said that it was very good", "we have to go back home now")


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")
def test_sentences_are_heard() -> None:
    stack = Hub().load("nano", device="cpu")
    clips = tts.render([(text, Voice("espeak", "en-us+m3")) for text in SENTENCES])
    waves = [Waveform(np.pad(c.pcm / np.float32(32768), 3200).astype(np.float32), tts.RATE, "tts") for c in clips]
    heard = [stack.transcribe(wave).text for wave in waves]
    assert jiwer.wer(list(SENTENCES), heard) < 0.25, heard
    assert jiwer.wer(list(SENTENCES), heard[1:] + heard[:1]) > 0.8
