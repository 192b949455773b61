"""Charts as PNG files, with matplotlib (extra `plots`)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import beside
from ..errors import HubError
from .report import Chart, Section, count

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MANY = 8
"""Of more lines than that only some are named in the legend, and their colours run from first to last."""


def draw(chart: Chart) -> Figure:
    """One chart as a figure, which belongs to no window and no global state. Bars lie, so that labels can be long.

    Raises: HubError without matplotlib.
    """
    try:
        from matplotlib import colormaps
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter
    except ImportError as error:
        raise HubError(f"Plots need matplotlib: {error}.", "pip install 'canary-hub[plots]'") from error
    bars = chart.kind == "bar"
    height = 1.6 + 0.3 * len(chart.series[0].x) if bars else 4.5
    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.subplots()
    many = len(chart.series) > MANY
    left = [0.0] * len(chart.series[0].x)
    for i, series in enumerate(chart.series):
        if bars:
            axes.barh(range(len(series.x)), series.y, left=left, label=series.name)
            left = [start + y for start, y in zip(left, series.y, strict=True)]
            continue
        named = not many or i % (len(chart.series) // 4) == 0
        axes.plot(
            series.x,
            series.y,
            label=series.name if named else None,
            marker="." if len(series.x) < 64 else "",
            color=colormaps["viridis"](i / (len(chart.series) - 1)) if many else None,
        )
    if bars:
        axes.set_yticks(range(len(left)), [str(x) for x in chart.series[0].x], parse_math=False)
        axes.invert_yaxis()
    axes.set_title(chart.title, parse_math=False)
    axes.set_xlabel(chart.y if bars else chart.x)
    axes.set_ylabel(chart.x if bars else chart.y)
    (axes.xaxis if bars else axes.yaxis).set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    if len(chart.series) > 1 and bars:
        figure.legend(loc="outside lower center", ncols=len(chart.series))
    elif len(chart.series) > 1:
        axes.legend()
    return figure


def write(sections: Iterable[Section], folder: Path, prefix: str) -> list[Path]:
    """Every chart as `folder/prefix-name.png` -> the paths. Raises: HubError without matplotlib or room."""
    written = []
    for chart in (chart for section in sections for chart in section.charts):
        figure = draw(chart)
        path = folder / f"{prefix}-{chart.name}.png"
        try:
            with beside(path) as part:
                figure.savefig(part, dpi=120, format="png")
        except OSError as error:
            raise HubError(f"{str(path)!r} cannot be written: {error}.", "Choose another --plots folder.") from error
        written.append(path)
    return written
