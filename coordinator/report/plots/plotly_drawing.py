"""Our charts as plotly figures, and the one look that Optuna's figures get, too."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence

import plotly.graph_objects as go
import plotly.io as pio

from coordinator.report.plots.chart import BLUE, OUTCOMES, PALE, SERIES, Bars, Chart, Line, Points

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_TEMPLATE = go.layout.Template(pio.templates["plotly_white"]).update(layout_colorway=SERIES)
for _axis in (_TEMPLATE.layout.xaxis, _TEMPLATE.layout.yaxis):
    _axis.title.font = {"size": 13, "color": "#475467"}
    _axis.tickfont = {"size": 12, "color": "#475467"}
# Optuna names its bars by states, and those of trials that violate a constraint by that.
_OF_STATE = {
    "COMPLETE": OUTCOMES["completed"],
    "INFEASIBLE": PALE,
    "PRUNED": OUTCOMES["pruned"],
    "FAIL": OUTCOMES["failed"],
    "RUNNING": OUTCOMES["under way"],
    "WAITING": OUTCOMES["given back"],
}
CONFIG = {"displaylogo": False, "responsive": True}
_SYMBOLS = {"circle": "circle", "diamond": "diamond-open", "tick": "line-ew", "tick-up": "line-ns"}


def shown(text: str) -> str:
    """Text that plotly shows to the letter: it reads tags and entities as HTML does."""
    return html.escape(text)


def draw(chart: Chart) -> go.Figure:
    """The chart."""
    figure = go.Figure()
    for layer in chart.layers:
        match layer:
            case Line():
                _line(figure, layer)
            case Points():
                _points(figure, layer)
            case Bars():
                _bars(figure, layer)
    figure.update_layout(
        barmode="overlay", height=chart.height, showlegend=chart.legend, hovermode="closest"
    )
    figure.update_xaxes(title=shown(chart.x), range=chart.x_range, **_ticks(chart.x_ticks))
    figure.update_yaxes(title=shown(chart.y), range=chart.y_range, **_ticks(chart.y_ticks))
    return figure


def style(figure: go.Figure, *, title: str = "", note: str = "") -> go.Figure:
    """The look of all plots; for a file of its own with title and note."""
    figure.update_layout(
        template=_TEMPLATE,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 13},
        title=None,
        margin={"l": 64, "r": 20, "t": 30, "b": 56},
        legend={
            "orientation": "h",
            "yanchor": "bottom",
            "y": 1.01,
            "xanchor": "left",
            "x": 0,
            "title": None,
        },
        hoverlabel={"font": {"family": FONT}, "align": "left"},
    )
    for axes in (figure.update_xaxes, figure.update_yaxes):
        axes(automargin=True, zeroline=False)
    figure.update_layout(
        width=None,
        autosize=True,
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#98a2b3", "activecolor": "#2f6fd0"},
    )
    if title:
        lines = f"<b>{shown(title)}</b>"
        figure.update_layout(
            title={"text": lines, "x": 0.01, "xanchor": "left", "y": 0.98, "yanchor": "top"},
            margin={"t": 96, "b": 96 if note else 56},
            paper_bgcolor="white",
        )
        if note:
            figure.add_annotation(
                text="<br>".join(map(shown, textwrap.wrap(note, 120))),
                **{"xref": "paper", "yref": "paper", "x": 0, "y": 0, "yshift": -60},
                **{"xanchor": "left", "yanchor": "top", "showarrow": False, "align": "left"},
                font={"size": 11, "color": "#667085"},
            )
    return figure


def optunas(figure: go.Figure, name: str) -> go.Figure:
    """One of Optuna's figures, in our colors, and as high as its panels need."""
    if name == "timeline":
        for bars in figure.data:
            bars.marker.color = _OF_STATE[bars.name]
    if name == "param-importances":
        figure.update_traces(marker_color=BLUE)
    side = round(sum(1 for _ in figure.select_yaxes()) ** 0.5)
    if name in ("contour", "rank") and side > 1:
        figure.update_layout(height=140 + 130 * side)
        figure.update_xaxes(tickfont={"size": 9}, title_font={"size": 10}, tickangle=60)
        figure.update_yaxes(tickfont={"size": 9}, title_font={"size": 10})
    else:
        figure.update_layout(height=420)
    return figure


def document(figure: go.Figure, title: str) -> str:
    """The figure as a page of its own that opens offline."""
    body = figure.to_html(full_html=False, include_plotlyjs=True, config=CONFIG)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title></head><body>{body}</body></html>\n"
    )


def _line(figure: go.Figure, layer: Line) -> None:
    name = shown(layer.name)
    if layer.low:
        figure.add_scatter(
            x=[*layer.x, *reversed(layer.x)],
            y=[*layer.high, *reversed(layer.low)],
            fill="toself",
            fillcolor=_faint(layer.color, 0.16),
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
            legendgroup=name,
        )
    figure.add_scatter(
        x=[*layer.x],
        y=[*layer.y],
        name=name,
        mode="lines",
        legendgroup=name,
        line={"color": layer.color, "width": 2, "dash": "dash" if layer.dashed else "solid"},
    )


def _points(figure: go.Figure, layer: Points) -> None:
    bars = {}
    if layer.low:
        middle = layer.x if layer.along_x else layer.y
        bars["error_x" if layer.along_x else "error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [high - at for at, high in zip(middle, layer.high, strict=True)],
            "arrayminus": [at - low for at, low in zip(middle, layer.low, strict=True)],
            "thickness": 2,
            "width": 6,
        }
    line = layer.symbol != "circle"
    figure.add_scatter(
        x=[*layer.x],
        y=[*layer.y],
        name=shown(layer.name),
        mode="markers",
        marker={
            "color": layer.color,
            "size": layer.size,
            "symbol": _SYMBOLS[layer.symbol],
            "opacity": 0.5 if layer.faint else 1.0,
            "line": {"width": 2 if line else 0, "color": layer.color},
        },
        text=[*map(shown, layer.texts)] or None,
        hovertemplate="%{text}<extra></extra>" if layer.texts else None,
        **bars,
    )


def _bars(figure: go.Figure, layer: Bars) -> None:
    figure.add_bar(
        y=[*layer.y],
        x=[*layer.length],
        base=[*layer.start],
        width=layer.width,
        orientation="h",
        name=shown(layer.name),
        marker={"color": layer.color, "line": {"width": 0}},
        hovertext=[*map(shown, layer.texts)] or None,
        hovertemplate="%{hovertext}<extra></extra>" if layer.texts else None,
    )


def _ticks(ticks: Sequence[tuple[float, str]]) -> dict[str, object]:
    if not ticks:
        return {}
    return {
        "tickvals": [at for at, _ in ticks],
        "ticktext": [shown(text) for _, text in ticks],
    }


def _faint(color: str, share: float) -> str:
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{share})"
