"""A result in the shapes of OpenAI's transcription API. Pure: no gradio, no web server.

https://platform.openai.com/docs/api-reference/audio/createTranscription
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from typing import Any

from ...run.formats import to_srt, to_txt, to_vtt
from ...run.result import Result, SegmentResult
from ..widgets.runs import UNFINISHED, Moment

TEXTS = {"text": to_txt, "srt": to_srt, "vtt": to_vtt}
"""Formats that are plain text."""
FORMATS = ("json", "verbose_json", *TEXTS)


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The body of every refusal."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def json_body(result: Result, warnings: tuple[str, ...]) -> dict[str, Any]:
    """`response_format=json`: text and usage, and beyond OpenAI's fields `warnings`, if there are any."""
    body = {"text": result.text, "usage": {"type": "duration", "seconds": round(result.duration, 3)}}
    notes = tuple(f"{s.start:.1f} to {s.end:.1f} s: {s.note}" for s in result.segments if s.note)
    found = (*warnings, *result.warnings, *notes)
    return {**body, "warnings": list(found)} if found else body


def verbose_body(
    result: Result, warnings: tuple[str, ...], granularities: tuple[str, ...], language: str, temperature: float
) -> dict[str, Any]:
    """`response_format=verbose_json`; words, and the ids of tokens, come from the result's trace.

    Args:
        granularities: "segment", "word" or both.
        language: as the client named it.
    """
    body = json_body(result, warnings)
    body |= {"task": "transcribe", "language": language, "duration": round(result.duration, 3)}
    traced = {segment.start: segment for segment in result.trace.segments} if result.trace else {}
    if "segment" in granularities:
        body["segments"] = [
            _segment(number, segment, temperature)
            | {"tokens": [token.id for token in traced[segment.start].tokens] if segment.start in traced else []}
            for number, segment in enumerate(result.segments)
        ]
    if "word" in granularities:
        words = [word for segment in traced.values() for word in segment.words]
        body["words"] = [{"word": word.text, "start": word.start, "end": word.end} for word in words]
        if result.text and not words:
            body["warnings"] = [*body.get("warnings", ()), "This stack's LLM backend gives no word times."]
    return body


def _segment(number: int, segment: SegmentResult, temperature: float) -> dict[str, Any]:
    """Fields that Whisper measures and we do not are what they would be for text that is in order."""
    data = segment.text.encode()
    silent = (segment.note or "").startswith("silence")
    return {
        "id": number,
        "seek": round(segment.start * 100),
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "temperature": temperature,
        "avg_logprob": math.log(segment.confidence) if segment.confidence else 0.0,
        "compression_ratio": len(data) / len(zlib.compress(data)) if data else 0.0,
        "no_speech_prob": 1.0 if silent else 0.0,
    }


def settled(moment: Moment) -> str:
    """The beginning of the transcript that is written to at its end alone.

    Segments are decoded side by side: text after an unfinished one would have to move.
    """
    if moment.result is None or moment.state == "done":
        return moment.text
    texts = []
    for segment in moment.result.segments:
        texts.append(segment.text.strip())
        if segment.note == UNFINISHED:
            break
    return " ".join(filter(None, texts))


def event(data: Mapping[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
