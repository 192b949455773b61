"""What the text-to-speech programs say, and when."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from canary_hub_train import phones, tts
from canary_hub_train.voices import ESPEAK_ACCENTS, ESPEAK_VARIANTS, UNSEEN_ESPEAK_VARIANTS, Voice

pytestmark = pytest.mark.skipif(
    any(shutil.which(program) is None for program in tts.PACKAGES), reason="needs espeak-ng, flite and festival"
)


@pytest.mark.parametrize(
    "voice",
    [Voice("espeak", "en-us+m3"), Voice("flite", "slt"), Voice("flite", "kal"), Voice("festival", "kal_diphone")],
)
def test_phones_are_told_in_order_and_in_time(voice: Voice) -> None:
    """In "see a moon" the s is the noisy part and the m and n are not, whichever program speaks."""
    (clip,) = tts.render([("see a moon", voice)])
    names = [phones.PHONES[index] for index in clip.phones]
    assert [name for name in names if name in ("s", "iy", "m", "uw", "n")] == ["s", "iy", "m", "uw", "n"]
    assert clip.ends == sorted(clip.ends)
    assert clip.ends[-1] == pytest.approx(len(clip.pcm) / tts.RATE, abs=0.1)
    crossings = {}
    for name, start, end in zip(names, [0.0, *clip.ends], clip.ends, strict=False):
        part = clip.pcm[int((start + 0.2 * (end - start)) * tts.RATE) : int((start + 0.8 * (end - start)) * tts.RATE)]
        crossings[name] = float((np.diff(np.sign(part)) != 0).mean()) if len(part) > 100 else 0.0
    assert crossings["s"] > 2 * max(crossings["m"], crossings["uw"], crossings["n"])


def test_every_voice_of_espeak_is_another() -> None:
    voices = [f"en-us+{name}" for name in (*ESPEAK_VARIANTS, *UNSEEN_ESPEAK_VARIANTS)]
    voices += [f"{accent}+f2" for accent in ESPEAK_ACCENTS]
    said = {tts.render([("good morning", Voice("espeak", name))])[0].pcm.tobytes() for name in voices}
    assert len(said) > 0.9 * len(voices)


def test_every_english_phone_of_espeak_is_known() -> None:
    text = "the judge sees a huge yellow bird, choosing fine thick oil there, now we measure how long pure air is"
    voices = [Voice("espeak", f"{accent}+m1") for accent in ESPEAK_ACCENTS]
    for clip in tts.render([(text, voice) for voice in voices]):
        assert phones.UNKNOWN not in clip.phones
