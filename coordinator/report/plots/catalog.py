"""Every plot by its name: what it shows, and how to make one in memory or in a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.report.data import StudyData
from coordinator.report.plots import optunas, ours
from coordinator.report.plots.chart import Chart
from trialfleet.errors import UsageError
from trialfleet.search.parameters import parameters

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Plot:
    """One plot."""

    title: str
    ours: Callable[[StudyData], Chart] | None = None  # None: Optuna's
    objectives: str = "any"  # of the study: "one", "several"
    takes_params: bool = False


# In the order of the report.
PLOTS: Mapping[str, Plot] = {
    "finalists": Plot("The finalists on fresh seeds", ours.finalists),
    "learning-curves": Plot("Learning curves", ours.learning_curves),
    "search-vs-fresh": Plot("Search score against fresh seeds", ours.search_against_fresh),
    "optimization-history": Plot("Optimization history"),
    "pareto-front": Plot("Pareto front", objectives="several"),
    "hypervolume-history": Plot("Hypervolume history", objectives="several"),
    "param-importances": Plot("Hyperparameter importances", takes_params=True),
    "slice": Plot("Score by each hyperparameter", takes_params=True),
    "contour": Plot("Score by pairs of hyperparameters", takes_params=True),
    "parallel-coordinate": Plot("Parallel coordinates", takes_params=True),
    "seed-spread": Plot("Seeds of the best trials", ours.seed_spread),
    "intermediate-values": Plot("Evaluations while training", objectives="one"),
    "rank": Plot("Rank by pairs of hyperparameters", takes_params=True),
    "edf": Plot("Distribution of the scores"),
    "budget": Plot("Where the compute went", ours.budget),
    "workers": Plot("Workers over time", ours.workers),
    "timeline": Plot("Trials over time"),
}
FORMATS = (".html", ".png", ".svg")


def find(name: str) -> Plot:
    """The plot called `name`.

    Raises:
        UsageError: There is none; the message has all names.
    """
    try:
        return PLOTS[name]
    except KeyError:
        raise UsageError(f"no plot is called {name!r}; there are {', '.join(PLOTS)}") from None


def applies(plot: Plot, data: StudyData) -> bool:
    """Whether the plot is one for a study of so many objectives."""
    several = len(data.maximize) > 1
    return plot.objectives in ("any", "several" if several else "one")


def check(name: str, data: StudyData, params: Sequence[str]) -> Plot:
    """The plot, if it is one for this study and these parameters.

    Raises:
        UsageError: It is not; the message says why.
    """
    plot = find(name)
    if not applies(plot, data):
        raise UsageError(
            f"{name} is for {plot.objectives} objective{'s' if plot.objectives != 'one' else ''}, "
            f"and study {data.study.name!r} has {len(data.maximize)}"
        )
    if params and not plot.takes_params:
        takers = ", ".join(key for key, each in PLOTS.items() if each.takes_params)
        raise UsageError(f"--param: {name} shows no single parameter; these do: {takers}")
    searched = [each.name for each in parameters(data.study.spec.agent)]
    for param in params:
        if param not in searched:
            raise UsageError(
                f"--param: study {data.study.name!r} does not search {param!r}; it searches "
                f"{', '.join(searched) or 'nothing'}"
            )
    if name in ("contour", "rank") and len(set(params)) == 1:
        raise UsageError(f"--param: {name} shows pairs; name another one, or none for all")
    return plot


def figure(name: str, data: StudyData, params: Sequence[str] = ()) -> tuple[go.Figure, str]:
    """The plot as a plotly figure in our look, and its note.

    Raises:
        NothingToShowError: There is not enough of the study yet.
    """
    import optuna.visualization

    from coordinator.report.plots import plotly_drawing

    plot = check(name, data, params)
    if plot.ours is not None:
        chart = plot.ours(data)
        return plotly_drawing.style(plotly_drawing.draw(chart)), chart.note
    drawn, note = optunas.draw(name, optuna.visualization, data, params, plotly_drawing.shown)
    return plotly_drawing.style(plotly_drawing.optunas(drawn, name)), note


def check_file(path: Path) -> str:
    """The ending of a plot's file.

    Raises:
        UsageError: It is none of FORMATS.
    """
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise UsageError(f"--out: {str(path)!r} must end in {', '.join(FORMATS)}")
    return kind


def write(name: str, data: StudyData, path: Path, params: Sequence[str] = ()) -> None:
    """Write the plot into a file whose ending says how.

    Raises:
        UsageError: The ending is none of FORMATS, or the plot is not for this study.
        NothingToShowError: There is not enough of the study yet.
    """
    kind = check_file(path)
    plot = check(name, data, params)
    title = f"{data.study.name}: {plot.title.lower()}"
    if kind == ".html":
        from coordinator.report.plots import plotly_drawing

        drawn, note = figure(name, data, params)
        whole = plotly_drawing.style(drawn, title=title, note=note)
        content = plotly_drawing.document(whole, title).encode()
    else:
        content = _picture(name, plot, data, params, kind=kind[1:], title=title)
    path.write_bytes(content)


def _picture(
    name: str, plot: Plot, data: StudyData, params: Sequence[str], *, kind: str, title: str
) -> bytes:
    from coordinator.report.plots import matplotlib_drawing as drawing

    with drawing.look():
        if plot.ours is not None:
            chart = plot.ours(data)
            return drawing.save(drawing.draw(chart), kind, title=title, note=chart.note)
        import optuna.visualization.matplotlib as visualization

        axes, note = optunas.draw(name, visualization, data, params, str)
        return drawing.save(drawing.optunas(axes, name), kind, title=title, note=note)
