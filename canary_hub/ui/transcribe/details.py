"""The injection details as HTML: how the audio entered the prompt, token by token, on one time axis.

Everything shown comes from a `Trace`; whatever it spells is escaped. Elements that mean a stretch of audio
carry data-seek (seconds, a click plays from there) and data-from/data-to (frames, lit up together).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby

from ...run.result import Frame, SegmentTrace, TokenTrace, Trace
from ..widgets.html import clock, count, size

UNSURE = 0.5
"""A token below this probability is marked."""


def details(trace: Trace | None) -> str:
    """One section per segment, and what ran."""
    if trace is None:
        return ""
    many = len(trace.segments) > 1
    lanes = "".join(
        _lane(
            _title(segment, i, many),
            i == 0,
            f"{_prompt(segment)}{_axis(segment, [_picture(segment), *_tracks(segment)])}"
            f'<p class="ch-note">{_about_times(segment)}</p>{_tokens(segment)}{_nearest(segment)}',
        )
        for i, segment in enumerate(trace.segments)
    )
    return f'<div class="ch-details">{lanes or "<p>Nothing was decoded.</p>"}{_stages(trace)}</div>'


def side_by_side(traces: Sequence[tuple[str, Trace]]) -> str:
    """The details of several runs on the same audio under each other; of segments that start and end alike on
    one time axis.

    Args:
        traces: each with the name of its run.
    """
    if not traces:
        return ""
    spans = [[(segment.start, segment.end) for segment in trace.segments] for _, trace in traces]
    if any(other != spans[0] for other in spans):
        inner = "".join(f"<h3>{escape(name)}</h3>{details(trace)}" for name, trace in traces)
        note = "The audio was cut into other segments for each, so there is no time axis in common."
        return f'<p class="ch-note">{note}</p>{inner}'
    lanes = "".join(
        _lane(
            _title(traces[0][1].segments[i], i, len(spans[0]) > 1),
            i == 0,
            _together([(name, trace.segments[i]) for name, trace in traces]),
        )
        for i in range(len(spans[0]))
    )
    stages = "".join(_stages(trace, f"{escape(name)}: shapes, times, parameters, memory") for name, trace in traces)
    return f'<div class="ch-details">{lanes or "<p>Nothing was decoded.</p>"}{stages}</div>'


def _together(segments: Sequence[tuple[str, SegmentTrace]]) -> str:
    """One stretch of audio in several runs."""
    first = segments[0][1]
    alike = all(segment.log_mel == first.log_mel for _, segment in segments)
    rows: list[tuple[str | None, str]] = [_picture(first)] if alike else []
    for name, segment in segments:
        own = _tracks(segment) if alike else [_picture(segment), *_tracks(segment)]
        rows += [(None, f"{escape(name)}: {escape(segment.counts)}"), *own]
    notes = "".join(f'<p class="ch-note">{note}</p>' for note in dict.fromkeys(_about_times(s) for _, s in segments))
    folded = "".join(
        f'<details class="ch-fold"><summary>{escape(name)}: prompt and tokens</summary>'
        f"{_prompt(segment)}{_tokens(segment)}{_nearest(segment)}</details>"
        for name, segment in segments
    )
    return f"{_axis(first, rows)}{notes}{folded}"


def _lane(title: str, opened: bool, inner: str) -> str:
    return f'<details class="ch-lane"{" open" if opened else ""}><summary>{title}</summary>{inner}</details>'


def _title(segment: SegmentTrace, index: int, many: bool) -> str:
    return f"Segment {index + 1}: {clock(segment.start)} to {clock(segment.end)}" if many else "How the audio entered"


def _prompt(segment: SegmentTrace) -> str:
    return f'<p class="ch-count">{escape(segment.counts)}</p>{_strip(segment)}'


def _strip(segment: SegmentTrace) -> str:
    """The prompt's tokens with the audio in the placeholder's place, then the tokens that were written."""
    chips = []
    for token in segment.prompt:
        struck = " ch-slot" if token.slot else ""
        chips.append(f'<span class="ch-chip{struck}" title="id {token.id}">{_piece(token.piece)}</span>')
        if token.slot:
            chips.append(
                f'<span class="ch-chip ch-audio" title="{len(segment.frames)} audio embeddings of '
                f"{segment.frame_seconds * 1000:.0f} ms took the placeholder's place\">"
                f"audio x {len(segment.frames)}{_band(segment, 18)}</span>"
            )
    places = _places(segment)
    written = "".join(_written(token, places.get(token.frame, "")) for token in segment.tokens)
    return (
        f'<div class="ch-strip" role="group" aria-label="Prompt tokens">{"".join(chips)}</div>'
        f'<div class="ch-strip ch-new" role="group" aria-label="Written tokens">{written}</div>'
    )


def _written(token: TokenTrace, place: str) -> str:
    sure = "" if token.probability >= UNSURE else " ch-unsure"
    title = f"id {token.id}, probability {token.probability:.0%}, entropy {token.entropy:.1f} bits"
    return f'<button type="button" class="ch-chip ch-token{sure}" title="{title}"{place}>' + (
        f"{_piece(token.piece)}<small>{token.probability:.0%}</small></button>"
    )


def _places(segment: SegmentTrace) -> dict[int | None, str]:
    """Frame at which a token begins -> attributes of what reaches from there to the next one's."""
    firsts = sorted({token.frame for token in segment.tokens if token.frame is not None})
    stops = [*firsts[1:], len(segment.frames)]
    return {first: _frames_at(segment, first, stop) for first, stop in zip(firsts, stops, strict=False)}


def _frames_at(segment: SegmentTrace, first: int, stop: int) -> str:
    seconds = segment.start + first * segment.frame_seconds
    return f' data-seek="{seconds:.3f}" data-from="{first}" data-to="{stop}"'


def _band(segment: SegmentTrace, height: int, clickable: bool = False) -> str:
    """The frames side by side, darker where their norm is larger."""
    norms = [frame.norm for frame in segment.frames]
    low, spread = min(norms, default=0.0), (max(norms, default=0.0) - min(norms, default=0.0)) or 1.0
    cells = "".join(
        f'<rect x="{i}" y="0" width="1.02" height="1" fill-opacity="{0.12 + 0.88 * (norm - low) / spread:.2f}"'
        f"{_frames_at(segment, i, i + 1) if clickable else ''}>"
        f"{f'<title>frame {i}, norm {norm:.2f}</title>' if clickable else ''}</rect>"
        for i, norm in enumerate(norms)
    )
    return (
        f'<svg class="ch-band" viewBox="0 0 {max(1, len(norms))} 1" preserveAspectRatio="none" '
        f'style="height:{height}px" aria-hidden="true">{cells}</svg>'
    )


def _axis(segment: SegmentTrace, rows: Sequence[tuple[str | None, str]]) -> str:
    """Tracks above one another, all over the segment's time; a row whose label is None is a heading."""
    body = "".join(
        f'<div class="ch-label ch-run">{track}</div>'
        if label is None
        else f'<div class="ch-label">{label}</div><div class="ch-track">{track}</div>'
        for label, track in rows
    )
    ticks = "".join(
        f'<span style="left:{100 * i / 5:.0f}%">{clock(segment.start + (segment.end - segment.start) * i / 5)}</span>'
        for i in range(6)
    )
    return (
        f'<div class="ch-axis">{body}<div class="ch-label">Time</div><div class="ch-track ch-ticks">{ticks}</div></div>'
    )


def _picture(segment: SegmentTrace) -> tuple[str, str]:
    return "Log-mel", _image([list(row) for row in reversed(segment.log_mel)], 64, "Log-mel features")


def _tracks(segment: SegmentTrace) -> list[tuple[str | None, str]]:
    """Frames, and where the LLM backend shows its attention, that and the words."""
    rows: list[tuple[str | None, str]] = [("Frames", _band(segment, 16, clickable=True))]
    if segment.attention is not None:
        picture = [[round(255 * value) for value in row] for row in segment.attention]
        height = min(220, max(24, 9 * len(picture)))
        rows.append(
            ("Attention", _image(picture, height, "Attention of each written token, top to bottom, to the frames"))
        )
        rows.append(("Words", f'<div class="ch-words">{"".join(_words(segment))}</div>'))
    return rows


def _about_times(segment: SegmentTrace) -> str:
    if segment.attention is None:
        return "This LLM backend shows no attention, so there are no word times."
    return (
        "Word times are estimated: a monotone path through the attention of the written tokens to the audio "
        "frames, over the heads that follow this clip best."
    )


def _words(segment: SegmentTrace) -> Iterator[str]:
    length = (segment.end - segment.start) or 1.0
    row_ends = [-1.0, -1.0, -1.0]
    for word in segment.words:
        left = 100 * (word.start - segment.start) / length
        row = min(range(3), key=lambda r: (row_ends[r] > left, row_ends[r]))
        row_ends[row] = left + 1.4 * len(word.text) + 1.5
        first = int((word.start - segment.start) / (segment.frame_seconds or 1) + 0.5)
        stop = max(first + 1, int((word.end - segment.start) / (segment.frame_seconds or 1) + 0.5))
        place = f"left:min({left:.2f}%, calc(100% - {len(word.text) + 2}ch))"
        yield (
            f'<button type="button" class="ch-word ch-row{row}" style="{place}"'
            f'{_frames_at(segment, first, stop)} title="about {clock(word.start)} to {clock(word.end)}">'
            f"{escape(word.text)}</button>"
        )


def _image(rows: Sequence[Sequence[int]], height: int, label: str) -> str:
    """Rows of 0..255 as an inline picture in one colour, which its opacity makes fit light and dark."""
    from PIL import Image

    if not rows:
        return ""
    picture = Image.new("LA", (len(rows[0]), len(rows)))
    picture.putdata([(0, value) for row in rows for value in row])
    file = io.BytesIO()
    picture.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img class="ch-picture" style="height:{height}px" alt="{label}" src="data:image/png;base64,{data}">'


def _tokens(segment: SegmentTrace) -> str:
    places = _places(segment)
    rows = "".join(
        f'<tr><td><button type="button" class="ch-seek"{places.get(token.frame, "")}>{_piece(token.piece)}</button>'
        "</td>"
        f'<td class="ch-number">{token.probability:.1%}{"" if token.probability >= UNSURE else " (unsure)"}</td>'
        f'<td class="ch-number">{token.entropy:.2f}</td><td>'
        + ", ".join(f"{_piece(a.piece)} <small>{a.probability:.1%}</small>" for a in token.alternatives)
        + "</td></tr>"
        for token in segment.tokens
    )
    return (
        '<details class="ch-fold"><summary>Written tokens: probability, entropy, alternatives</summary>'
        '<div class="ch-scroll"><table class="ch-table"><thead><tr><th scope="col">Token</th>'
        '<th scope="col" title="Under a softmax over the whole vocabulary">Probability</th>'
        '<th scope="col" title="Of that distribution, in bits: 0 is certain">Entropy</th>'
        f'<th scope="col">Next best</th></tr></thead><tbody>{rows}</tbody></table></div></details>'
    )


def _nearest(segment: SegmentTrace) -> str:
    """Runs of frames with the same nearest token, collapsed."""
    if not any(frame.nearest for frame in segment.frames):
        return ""
    rows = []
    numbered = enumerate(segment.frames)
    for _, run in groupby(numbered, key=lambda item: item[1].nearest[0].id if item[1].nearest else None):
        frames: list[tuple[int, Frame]] = list(run)
        first, stop = frames[0][0], frames[-1][0] + 1
        names = ", ".join(f"{_piece(n.piece)} <small>{n.cosine:.2f}</small>" for n in frames[0][1].nearest)
        when = f"{clock(segment.start + first * segment.frame_seconds)}, {count(stop - first, 'frame')}"
        rows.append(
            f'<tr><td><button type="button" class="ch-seek"{_frames_at(segment, first, stop)}>{when}</button></td>'
            f"<td>{names}</td></tr>"
        )
    return (
        '<details class="ch-fold"><summary>Nearest vocabulary tokens of each frame</summary>'
        '<p class="ch-note">By cosine to the embedding table. An audio embedding need not lie near any word: '
        "this is where it lies, not what the model heard.</p>"
        '<div class="ch-scroll"><table class="ch-table"><thead><tr><th scope="col">Frames</th>'
        f'<th scope="col">Nearest, with cosine</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div></details>'
    )


def _stages(trace: Trace, title: str = "Stages: shapes, times, parameters, memory") -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(record.stage)}</th><td><code>{escape(record.component)}</code></td>'
        f"<td>{' x '.join(map(str, record.shape))} {escape(record.dtype)}</td>"
        f'<td class="ch-number">{record.seconds * 1000:.0f} ms</td>'
        f'<td class="ch-number">{count(trace.parameters.get(record.stage, 0), "parameter")}</td>'
        f'<td class="ch-number">{size(nbytes) if (nbytes := trace.nbytes.get(record.stage, 0)) else "-"}</td></tr>'
        for record in trace.stages
    )
    return (
        f'<details class="ch-fold"><summary>{title}</summary><div class="ch-scroll">'
        '<table class="ch-table"><thead><tr><th scope="col">Stage</th><th scope="col">Component</th>'
        '<th scope="col">Gave</th><th scope="col">Time</th><th scope="col">Size</th><th scope="col">Memory</th></tr>'
        f"</thead><tbody>{rows}</tbody></table></div></details>"
    )


def _piece(piece: str) -> str:
    """A token's text with its white space made visible."""
    return escape(piece).replace("\n", "\u23ce").replace(" ", "\u2423") or "\u2205"
