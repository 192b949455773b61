"""How the page looks: theme, style sheet and the few lines of script that are not a component's own."""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr

from ..server.gradio_inside import PLAY

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace")

CSS = (Path(__file__).parents[1] / "assets" / "page.css").read_text("utf-8")
SCRIPTS = "".join((Path(__file__).parents[1] / "assets" / name).read_text("utf-8") for name in ("page.js", "link.js"))
HEAD = f"<script>window.canaryHub = {{ seconds: 0, play: {json.dumps(PLAY)} }};\n{SCRIPTS}</script>"


def theme() -> gr.themes.Base:
    """The default theme in system fonts: nothing is fetched."""
    plain = gr.themes.Default(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        radius_size="sm",
        font=FONTS,
        font_mono=MONO,
    )
    return plain.set(
        body_text_color_subdued="*neutral_500",  # the default's neutral_400 is too pale to read on white
        body_text_color_subdued_dark="*neutral_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        color_accent="*primary_700",
        color_accent_soft_dark="*primary_900",
        slider_color="*primary_700",
        checkbox_background_color_selected="*primary_700",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
        button_cancel_background_fill_dark="*button_secondary_background_fill",
        button_cancel_background_fill_hover_dark="*button_secondary_background_fill_hover",
        button_cancel_text_color_dark="*button_secondary_text_color",
        button_cancel_background_fill="*button_secondary_background_fill",
        button_cancel_background_fill_hover="*button_secondary_background_fill_hover",
        button_cancel_text_color="*button_secondary_text_color",
    )
