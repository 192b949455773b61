"""Charts of a report as HTML and SVG: they take their colours and sizes from the page, in light, dark and on a phone.

Labels are HTML, the plot is stretched to its place, so that letters and lines keep their size at any width.
"""

from __future__ import annotations

import math
from html import escape

from ...explore.report import Chart, Series, count

MANY = 8
"""Of more lines than that only the first and the last are named, and their colours run from one to the other."""
DOTS = 64
"""Lines of fewer points show each of them."""
NAMED = {"padding": "ch-nothing", "text before": "ch-series2", "audio": "ch-series0", "text after": "ch-series1"}
"""Series that look the same in every chart."""


def draw(chart: Chart) -> str:
    """A figure with its title, its axes' names and, of several series, their legend."""
    body = _bars(chart) if chart.kind == "bar" else _lines(chart)
    return f'<figure class="ch-chart"><figcaption>{escape(chart.title)}</figcaption>{body}</figure>'


def _bars(chart: Chart) -> str:
    """A list: every bar with its label and its value as text."""
    totals = [sum(series.y[i] for series in chart.series) for i in range(len(chart.series[0].x))]
    longest = 1.0 if chart.y == "probability" else max(totals, default=0.0) or 1.0
    rows = "".join(_bar(chart, i, total, longest) for i, total in enumerate(totals))
    legend = _legend(chart, "ch-block") if len(chart.series) > 1 else ""
    return f'<ul class="ch-hbars">{rows}</ul><div class="ch-under">{escape(chart.y)}</div>{legend}'


def _bar(chart: Chart, i: int, total: float, longest: float) -> str:
    label = escape(str(chart.series[0].x[i]))
    pieces = "".join(
        f'<span class="{_look(chart, k)}" style="width:{100 * series.y[i] / longest:.2f}%"></span>'
        for k, series in enumerate(chart.series)
    )
    value = f"{100 * total:.1f} %" if chart.y == "probability" else _figure(total)
    parts = ""
    if len(chart.series) > 1:
        words = ", ".join(f"{_figure(series.y[i])} {series.name}" for series in chart.series)
        parts = f'<span class="ch-unseen">: {escape(words)}</span>'
    return (
        f'<li><span class="ch-hname">{label}</span><span class="ch-htrack" aria-hidden="true">{pieces}</span>'
        f'<span class="ch-hvalue">{value}{parts}</span></li>'
    )


def _lines(chart: Chart) -> str:
    xs = [float(x) for series in chart.series for x in series.x]
    left, right = min(xs), max(xs)
    whole = all(x.is_integer() for x in xs)
    right = right if right > left else left + 1.0
    heights = ticks(0.0, max((y for series in chart.series for y in series.y), default=0.0) or 1.0)
    top = heights[-1]
    places = [x for x in ticks(left, right) if left <= x <= right and (x.is_integer() or not whole)]

    def across(x: float) -> float:
        return 100 * (x - left) / (right - left)

    def down(y: float) -> float:
        return 100 - 100 * y / top

    grid = "".join(f'<line class="ch-grid" x1="0" x2="100" y1="{down(y):.2f}" y2="{down(y):.2f}"/>' for y in heights)
    drawn = ""
    for i, series in enumerate(chart.series):
        points = list(zip((across(float(x)) for x in series.x), map(down, series.y), strict=True))
        at = f' style="--at:{i / (len(chart.series) - 1):.3f}"' if len(chart.series) > MANY else ""
        joined = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
        drawn += f'<polyline class="{_look(chart, i)}"{at} points="{joined}"/>'
        if len(points) < DOTS and len(chart.series) <= MANY:
            dots = "".join(f"M{x:.2f} {y:.2f}h0" for x, y in points)
            drawn += f'<path class="ch-dots {_look(chart, i)}" d="{dots}"/>'
    rows = "".join(f'<span style="top:{down(y):.2f}%">{_figure(y)}</span>' for y in heights)
    columns = "".join(f'<span style="left:{across(x):.2f}%">{_figure(x)}</span>' for x in places)
    legend = _legend(chart, "ch-stroke") if len(chart.series) > 1 else ""
    return (
        f'<div class="ch-over" aria-hidden="true">{escape(chart.y)}</div>'
        f'<div class="ch-plot" role="img" aria-label="{escape(_said(chart), quote=True)}">'
        f'<div class="ch-yticks" aria-hidden="true">{rows}</div>'
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">{grid}{drawn}</svg>'
        f'<div class="ch-xticks" aria-hidden="true">{columns}</div></div>'
        f'<div class="ch-under" aria-hidden="true">{escape(chart.x)}</div>{legend}'
    )


def _look(chart: Chart, i: int) -> str:
    return "ch-ramp" if len(chart.series) > MANY else NAMED.get(chart.series[i].name, f"ch-series{i % 4}")


def _legend(chart: Chart, kind: str) -> str:
    first, last = chart.series[0], chart.series[-1]
    if len(chart.series) > MANY:
        return (
            f'<div class="ch-names" aria-hidden="true"><span>{escape(first.name)}</span><span class="ch-scale"></span>'
            f"<span>{escape(last.name)}</span></div>"
        )
    names = "".join(
        f'<span><svg viewBox="0 0 24 10" class="{kind}" aria-hidden="true"><path class="{_look(chart, i)}" '
        f'd="M1 5H23"/></svg>{escape(series.name)}</span>'
        for i, series in enumerate(chart.series)
    )
    return f'<div class="ch-names" aria-hidden="true">{names}</div>'


def _said(chart: Chart) -> str:
    """What a screen reader says: the axes, and where each line starts and ends."""
    shown = chart.series if len(chart.series) <= MANY else (chart.series[0], chart.series[-1])
    lines = "; ".join(_ends(series) for series in shown)
    return f"{chart.y} over {chart.x}. {lines}."


def _ends(series: Series) -> str:
    start, end = (f"{_figure(series.y[i])} at {_figure(float(series.x[i]))}" for i in (0, -1))
    return f"{series.name}: from {start} to {end}, at most {_figure(max(series.y))}"


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers, at most `most` steps apart, from at or below `low` to at or above `high`."""
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * round_ for round_ in (1, 2, 5, 10) if size * round_ >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def _figure(value: float) -> str:
    """Three digits; large numbers as in the tables."""
    if value >= 1e4:
        return count(value)
    return f"{value:,.0f}" if value >= 100 and value == round(value) else f"{value:.3g}"
