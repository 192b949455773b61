"""A transcript's segments and stages as HTML."""

from __future__ import annotations

from collections.abc import Mapping

from ...run.result import SegmentResult
from ..widgets.html import remark
from ..widgets.runs import Moment
from ..widgets.templates import render


def segments(found: Mapping[int, SegmentResult], heard: bool = True) -> str:
    """A table of finished segments; a click on a time plays from there, where the audio is at hand (`heard`)."""
    if not found:
        return ""
    rows = [(segment, remark(segment)) for _, segment in sorted(found.items())]
    return render("transcribe/segments.html", segments=rows, heard=heard)


def stages(moment: Moment, titles: Mapping[str, str]) -> str:
    """Time per stage, with what each one gave last. `titles`: of the components, by their ids."""
    result = moment.result
    if result is None or moment.state != "done":
        return ""
    last = {record.stage: record for record in moment.records}
    longest = max(result.seconds.values(), default=0.0) or 1.0
    rows = []
    for name, seconds in result.seconds.items():
        label = "Reading the audio" if name == "audio" else name.replace("-", " ").replace("llm", "LLM")
        record = last.get(name)
        rows.append(
            {
                "name": name,
                "label": label[:1].upper() + label[1:],
                "record": record,
                "title": titles.get(record.component, "") if record else "",
                "seconds": seconds,
                "width": f"{max(seconds / longest, 0.01):.1%}",
            }
        )
    return render("transcribe/stages.html", stages=rows, nbytes=moment.nbytes)
