"""Our charts with matplotlib, for PNG and SVG, and the look that Optuna's get, too."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.collections import PolyCollection
from matplotlib.ticker import AutoLocator, FuncFormatter, MaxNLocator, NullFormatter

from coordinator.report.plots.chart import SERIES, Bars, Chart, Line, Points

mpl.use("Agg")

import matplotlib.pyplot as plt

_MARKERS = {"circle": "o", "diamond": "D", "tick": "_", "tick-up": "|"}
_LOOK: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#98a2b3",
    "axes.labelcolor": "#344054",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "white",
    "grid.color": "#eaecf0",
    "xtick.color": "#475467",
    "ytick.color": "#475467",
    "legend.frameon": False,
    "text.parse_math": False,  # a dollar in a name begins no formula
    "svg.fonttype": "none",
    "svg.hashsalt": "trialfleet",  # the same plot is the same file
    "axes.prop_cycle": cycler(color=SERIES),
}


@contextmanager
def look() -> Iterator[None]:
    """Inside, figures are made in our look; they are closed at the end."""
    # Optuna's plots set ggplot's style for themselves; theirs is put right by `save`.
    with mpl.rc_context(_LOOK):
        try:
            yield
        finally:
            plt.close("all")


def draw(chart: Chart) -> Any:
    """The chart as a matplotlib figure."""
    figure, axes = plt.subplots(figsize=(9, chart.height / 90))
    for layer in chart.layers:
        match layer:
            case Line():
                _line(axes, layer)
            case Points():
                _points(axes, layer)
            case Bars():
                _bars(axes, layer)
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.y)
    if chart.x_range:
        axes.set_xlim(*chart.x_range)
    if chart.y_range:
        axes.set_ylim(*chart.y_range)
    if chart.x_ticks:
        axes.set_xticks(*_ticks(chart.x_ticks), rotation=60 if len(chart.x_ticks) > 12 else 0)
    if chart.y_ticks:
        axes.set_yticks(*_ticks(chart.y_ticks))
        axes.grid(visible=False, axis="y")
    if chart.legend:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
            ncols=len(chart.layers),
            borderaxespad=0.2,
            columnspacing=1.2,
            fontsize=9,
        )
    return figure


def optunas(axes: Any, name: str) -> Any:
    """The figure of one of Optuna's plots, in our look instead of ggplot's."""
    grid = np.atleast_1d(axes)
    figure = grid.flat[0].get_figure()
    figure.suptitle("")
    if name == "intermediate-values" and grid.flat[0].get_legend():
        grid.flat[0].get_legend().remove()
    for each in figure.axes:
        for loc in ("left", "center", "right"):
            each.set_title("", loc=loc)
        each.set_facecolor("white")
        if name == "parallel-coordinate":
            each.grid(visible=False)
        else:
            each.grid(color=_LOOK["grid.color"])
        each.tick_params(colors=_LOOK["xtick.color"], labelsize=9)
        for axis in (each.xaxis, each.yaxis):
            if axis.get_scale() == "log":
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axis.set_minor_formatter(NullFormatter())
        for side, spine in each.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(_LOOK["axes.edgecolor"])
        for label in (each.xaxis.label, each.yaxis.label):
            label.set(color=_LOOK["axes.labelcolor"], size=10)
    if grid.size == 1:
        figure.set_size_inches(9, 5)
    elif grid.ndim == 1:
        figure.set_size_inches(1.5 + 2.1 * len(grid), 3.6)
        _make_room(grid)
    else:
        side = 1.0 + 1.9 * len(grid)
        figure.set_size_inches(side + 1.6, side)
        figure.subplots_adjust(left=0.1, right=0.84, top=0.97, wspace=0.1, hspace=0.1)
        for bar in set(figure.axes) - set(grid.flat):
            bar.set_position((0.87, 0.11, 0.025, 0.86))
            bar.set_aspect("auto")
        for each in grid.flat:
            each.label_outer(remove_inner_ticks=True)
        _make_room(grid)
    return figure


def _make_room(grid: Any) -> None:
    """Small labels for panels beside each other."""
    for axes in grid.flat:
        axes.xaxis.label.set_size(8)
        axes.yaxis.label.set_size(8)
        axes.tick_params(labelsize=7)
        axes.tick_params(axis="x", labelrotation=60)
        if isinstance(axes.xaxis.get_major_locator(), AutoLocator):
            axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.minorticks_off()


def save(figure: Any, kind: str, *, title: str, note: str) -> bytes:
    """The figure as "png" or "svg", with its title above and its note below."""
    figure.draw_without_rendering()  # only then it is known how far the labels reach
    drawn, height = figure.get_tightbbox(), figure.get_figheight()
    left = max(0.0, drawn.x0 / figure.get_figwidth())
    top, bottom = (drawn.y1 + 0.12) / height, (drawn.y0 - 0.12) / height
    figure.text(left, top, title, ha="left", va="bottom", size=12, weight="bold", color="#101828")
    if note:
        lines = "\n".join(textwrap.wrap(note, int(figure.get_figwidth() * 14)))
        figure.text(left, bottom, lines, ha="left", va="top", size=8, color="#667085")
    figure.set_facecolor("white")
    written = BytesIO()
    # No date in the file: the same study gives the same bytes.
    metadata = {"Date": None} if kind == "svg" else None
    figure.savefig(written, format=kind, dpi=160, bbox_inches="tight", metadata=metadata)
    return written.getvalue()


def _line(axes: Any, layer: Line) -> None:
    if layer.low:
        axes.fill_between(layer.x, layer.low, layer.high, color=layer.color, alpha=0.16, lw=0)
    style = "--" if layer.dashed else "-"
    axes.plot(layer.x, layer.y, style, color=layer.color, lw=2, label=layer.name)


def _bars(axes: Any, layer: Bars) -> None:
    """All bars as one collection: as patches of their own, thousands take minutes."""
    left, y = np.asarray(layer.start), np.asarray(layer.y)
    right, half = left + np.asarray(layer.length), layer.width / 2
    corners = [(left, y - half), (left, y + half), (right, y + half), (right, y - half)]
    polygons: Any = np.array(corners, dtype=float).transpose(2, 0, 1)  # [bars, 4, 2]
    axes.add_collection(PolyCollection(polygons, facecolor=layer.color, label=layer.name))
    axes.autoscale_view()


def _points(axes: Any, layer: Points) -> None:
    opacity = 0.5 if layer.faint else 1.0
    hollow = {"facecolors": "none"} if layer.symbol == "diamond" else {}
    color = {"edgecolors" if hollow else "color": layer.color}
    axes.scatter(
        layer.x,
        layer.y,
        s=layer.size**2 * 0.5,
        marker=_MARKERS[layer.symbol],
        alpha=opacity,
        label=layer.name,
        zorder=3,
        **hollow,
        **color,
    )
    if layer.low:
        middle = layer.x if layer.along_x else layer.y
        error = (
            [at - low for at, low in zip(middle, layer.low, strict=True)],
            [high - at for at, high in zip(middle, layer.high, strict=True)],
        )
        axes.errorbar(
            layer.x,
            layer.y,
            **{"xerr" if layer.along_x else "yerr": error},
            fmt="none",
            ecolor=layer.color,
            elinewidth=2,
            capsize=4,
            zorder=3,
        )


def _ticks(ticks: Sequence[tuple[float, str]]) -> tuple[list[float], list[str]]:
    return [at for at, _ in ticks], [text for _, text in ticks]
