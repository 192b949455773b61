"""Charts of a report as data for templates/explore/chart.html: HTML and SVG that take their colours and sizes from the
page, in light, dark and on a phone."""

from __future__ import annotations

import math
from typing import Any

from ...explore.report import Chart, Series, count

MANY = 8
"""Of more lines than that only the first and the last are named, and their colours run from one to the other."""
DOTS = 64
"""Lines of fewer points show each of them."""
NAMED = {"padding": "ch-nothing", "text before": "ch-series2", "audio": "ch-series0", "text after": "ch-series1"}
"""Series that look the same in every chart."""


def drawn(chart: Chart) -> dict[str, Any]:
    """What the template draws: the title, the axes' names, bars or lines, and of several series their legend."""
    several = len(chart.series) > 1
    return {
        "title": chart.title,
        "x": chart.x,
        "y": chart.y,
        "ramp": len(chart.series) > MANY,
        "legend": [(series.name, _look(chart, i)) for i, series in enumerate(chart.series)] if several else [],
        **({"bars": _bars(chart)} if chart.kind == "bar" else _lines(chart)),
    }


def _bars(chart: Chart) -> list[dict[str, Any]]:
    """Every bar with its label and its value as text; of several series, with its parts as text too."""
    totals = [sum(series.y[i] for series in chart.series) for i in range(len(chart.series[0].x))]
    chances = chart.y == "probability"
    longest = 1.0 if chances else max(totals, default=0.0) or 1.0
    parts = chart.series if len(chart.series) > 1 else ()
    return [
        {
            "label": chart.series[0].x[i],
            "pieces": [(_look(chart, k), f"{100 * one.y[i] / longest:.2f}") for k, one in enumerate(chart.series)],
            "value": f"{100 * total:.1f} %" if chances else _figure(total),
            "parts": ", ".join(f"{_figure(series.y[i])} {series.name}" for series in parts),
        }
        for i, total in enumerate(totals)
    ]


def _lines(chart: Chart) -> dict[str, Any]:
    """Lines as points of a square of 100, with the ticks of both axes at their places in it."""
    xs = [float(x) for series in chart.series for x in series.x]
    left, right = min(xs), max(xs)
    whole = all(x.is_integer() for x in xs)
    right = right if right > left else left + 1.0
    heights = ticks(0.0, max((y for series in chart.series for y in series.y), default=0.0) or 1.0)
    columns = [x for x in ticks(left, right) if left <= x <= right and (x.is_integer() or not whole)]

    def across(x: float) -> str:
        return f"{100 * (x - left) / (right - left):.2f}"

    def down(y: float) -> str:
        return f"{100 - 100 * y / heights[-1]:.2f}"

    lines = []
    for i, series in enumerate(chart.series):
        points = list(zip((across(float(x)) for x in series.x), map(down, series.y), strict=True))
        dotted = len(points) < DOTS and len(chart.series) <= MANY
        lines.append(
            {
                "look": _look(chart, i),
                "at": f"{i / (len(chart.series) - 1):.3f}" if len(chart.series) > MANY else "",
                "points": " ".join(f"{x},{y}" for x, y in points),
                "dots": "".join(f"M{x} {y}h0" for x, y in points) if dotted else "",
            }
        )
    return {
        "description": _description(chart),
        "heights": [(down(y), _figure(y)) for y in heights],
        "columns": [(across(x), _figure(x)) for x in columns],
        "lines": lines,
    }


def _look(chart: Chart, i: int) -> str:
    return "ch-ramp" if len(chart.series) > MANY else NAMED.get(chart.series[i].name, f"ch-series{i % 4}")


def _description(chart: Chart) -> str:
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
