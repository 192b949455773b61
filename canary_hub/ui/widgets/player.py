"""The player for speech, the clips that come with the page, and what a click on a time does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from ..server.gradio_inside import keep_file

ON_SEEK = "element.addEventListener('click', (e) => e.target.closest('[data-seek]') && trigger('click'))"
"""Has a piece of HTML tell of clicks on the times in it."""
SEEK = "() => ({__type__: 'update', playback_position: window.canaryHub.seconds})"
"""Runs in the browser alone: moves the player to where the last click on a time pointed."""

EXAMPLE = Path(__file__).parents[2] / "clips" / "digits.flac"
"""Digits, spoken by a text-to-speech voice."""
SENTENCE = EXAMPLE.with_name("sentence.flac")
"""A sentence, spoken by the same voice."""


def player(elem_id: str, **settings: Any) -> gr.Audio:
    """Draw a player to upload to or to record with; its value is a file."""
    return gr.Audio(
        sources=["upload", "microphone"],
        type="filepath",
        label="Speech",
        elem_id=elem_id,
        buttons=[],
        waveform_options=gr.WaveformOptions(waveform_color="#94a3b8", waveform_progress_color="#0f766e"),
        **settings,
    )


def playable(clip: Path, audio: gr.Audio) -> str:
    """A copy for the player: gradio sends the package's own files only if the server was started in a folder above."""
    return keep_file(clip.read_bytes(), clip.name, audio)
