"""What a run gave, as HTML. Everything that comes from a visitor, a file or a model is escaped here."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from ...run.result import Result, SegmentResult, StageRecord
from ...specs import Stage
from .runs import Moment

DOUBTFUL = 0.5
"""A segment whose tokens have a lower mean probability than this is marked."""


def status(moment: Moment) -> str:
    """The status line: what is happening, or how it went."""
    role = 'role="alert"' if moment.state == "failed" else 'role="status" aria-live="polite"'
    if moment.state == "done" and moment.result is not None:
        inner = _figures(moment.result)
    else:
        inner = f"<strong>{_lines(moment.message)}</strong>"
        if moment.hint:
            inner += f"<span>{_lines(moment.hint)}</span>"
    if moment.state == "busy":
        value = "" if moment.share is None else f' value="{moment.share:.3f}"'
        inner += f'<progress max="1"{value} aria-label="Progress"></progress>'
    for warning in moment.warnings if moment.state != "failed" else ():
        inner += f'<span class="ch-warning">Note: {escape(warning)}.</span>'
    return f'<div class="ch-status ch-{moment.state}" {role}>{inner}</div>'


def _figures(result: Result) -> str:
    tokens = sum(segment.tokens for segment in result.segments)
    frames = sum(segment.audio_frames for segment in result.segments)
    doubtful = [segment for segment in result.segments if remark(segment)]
    text = (
        f"<strong>{seconds(result.duration)} of audio in {seconds(result.total_seconds)}: "
        f"{_times(result.speed)} real time</strong>"
        f"<span>{count(tokens, 'token')} from {count(frames, 'audio frame')}"
        f"{' in ' + count(len(result.segments), 'segment') if len(result.segments) > 1 else ''}</span>"
    )
    if not result.text:
        text += '<span class="ch-warning">No words came out: silence, or nothing this model knows.</span>'
    elif doubtful:
        text += f'<span class="ch-warning">{count(len(doubtful), "segment")} marked below.</span>'
    return text


def segments(found: Mapping[int, SegmentResult], heard: bool = True) -> str:
    """A table of finished segments; a click on a time plays from there, where the audio is at hand (`heard`)."""
    if not found:
        return ""
    rows = "".join(_segment(found[i], heard) for i in sorted(found))
    return (
        '<div class="ch-scroll"><table class="ch-table ch-segments">'
        f"<caption>Segments.{' Click a time to hear it.' if heard else ''}</caption>"
        '<thead><tr><th scope="col">Time</th><th scope="col">Text</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _segment(segment: SegmentResult, heard: bool) -> str:
    note = remark(segment)
    mark = f'<div class="ch-warning">{escape(note)}</div>' if note else ""
    text = escape(segment.text) or '<span class="ch-quiet">(no text)</span>'
    time = f"{clock(segment.start)} to {clock(segment.end)}"
    if heard:
        place = f'data-seek="{segment.start:.3f}" aria-label="Play from {clock(segment.start)}"'
        time = f'<button type="button" class="ch-seek" {place}>{time}</button>'
    return f"<tr><td>{time}</td><td>{text}{mark}</td></tr>"


def remark(segment: SegmentResult) -> str:
    """Why a segment's text is to be doubted, in plain words; "" when it is not."""
    if segment.note:
        return segment.note[0].upper() + segment.note[1:]
    if segment.confidence is not None and segment.confidence < DOUBTFUL and segment.text:
        return f"Low confidence: {segment.confidence:.0%} a token on average"
    return ""


def stages(moment: Moment, titles: Mapping[str, str]) -> str:
    """Time per stage, with what each one gave last."""
    result = moment.result
    if result is None or moment.state != "done":
        return ""
    last = {record.stage: record for record in moment.records}
    longest = max(result.seconds.values(), default=0.0) or 1.0
    memory = f'<p class="ch-note">Weights in memory: {size(moment.nbytes)}.</p>' if moment.nbytes else ""
    rows = "".join(
        _stage(name, spent, spent / longest, last.get(name), titles) for name, spent in result.seconds.items()
    )
    return (
        '<details class="ch-fold"><summary>Time per stage</summary><table class="ch-table ch-stages"><thead><tr>'
        '<th scope="col">Stage</th><th scope="col">Component</th><th scope="col">Gave</th>'
        f'<th scope="col" colspan="2">Time</th></tr></thead><tbody>{rows}</tbody></table>{memory}</details>'
    )


def _stage(name: str, spent: float, share: float, record: StageRecord | None, titles: Mapping[str, str]) -> str:
    component, gave = "", ""
    if record is not None:
        title = escape(titles.get(record.component, ""), quote=True)
        component = f'<code title="{title}">{escape(record.component)}</code>'
        gave = f"{' x '.join(map(str, record.shape))} <span class='ch-quiet'>{escape(record.dtype)}</span>"
    if name == Stage.LLM.value and record is not None:
        gave = f"{record.shape[-1]} steps" + (f", {record.shape[0]} at once" if record.shape[0] > 1 else "")
    label = "Reading the audio" if name == "audio" else name.replace("-", " ").replace("llm", "LLM")
    bar = f'<span class="ch-bar" style="width:{max(share, 0.01):.1%}"></span>'
    return (
        f'<tr><th scope="row">{escape(label[0].upper() + label[1:])}</th><td>{component}</td><td>{gave}</td>'
        f'<td class="ch-number">{milliseconds(spent)}</td><td class="ch-bars" aria-hidden="true">{bar}</td></tr>'
    )


def seconds(value: float) -> str:
    """ "0.34 s", "12.4 s" or "3 min 20 s"."""
    if value >= 60:
        return f"{int(value // 60)} min {int(value % 60)} s"
    return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"


def milliseconds(value: float) -> str:
    """ "12 ms", or seconds above one."""
    return seconds(value) if value >= 1 else f"{value * 1000:.0f} ms"


def clock(value: float) -> str:
    """ "0:07.9", "1:02:03.4"."""
    tenths = round(value * 10)
    whole, tenth = divmod(tenths, 10)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    head = f"{hours}:{minute:02d}" if hours else f"{minute}"
    return f"{head}:{second:02d}.{tenth}"


def size(nbytes: float) -> str:
    """Bytes in words: "14 MB", "4.8 GB"."""
    return f"{nbytes / 2**30:.1f} GB" if nbytes >= 2**30 else f"{max(1, round(nbytes / 2**20))} MB"


def _times(speed: float) -> str:
    return f"{speed:.0f} times" if speed >= 10 else f"{speed:.1f} times"


def count(number: int, noun: str) -> str:
    """ "1 token", "2 tokens"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}".replace(",", "\u202f")


def _lines(text: str) -> str:
    return escape(text).replace("\n", "<br>")
