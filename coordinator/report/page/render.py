"""The report: one page that opens offline. It leads with the answer and how sure one can be."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
import plotly.io as pio
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from coordinator import judged
from coordinator.answer import answer, race_told
from coordinator.certainty import certainty_of_row, ends_told, footnote
from coordinator.report import facts
from coordinator.report.account import KINDS, account
from coordinator.report.data import StudyData
from coordinator.report.difference import compare
from coordinator.report.plots import catalog, optunas, plotly_drawing
from coordinator.report.studyfile import as_toml
from trialfleet import __version__
from trialfleet.errors import NothingToShowError
from trialfleet.search.parameters import parameters
from trialfleet.study.measures import amount, as_score

# Plots by the section that shows them, in its order.
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "answer": ("finalists", "search-vs-fresh", "learning-curves"),
    "search": (
        "optimization-history",
        "pareto-front",
        "hypervolume-history",
        "param-importances",
        "seed-spread",
        "edf",
        "slice",
        "parallel-coordinate",
        "contour",
        "rank",
        "intermediate-values",
    ),
    "compute": ("budget", "workers", "timeline"),
}
WIDE = {
    *("finalists", "slice", "parallel-coordinate", "contour", "rank", "intermediate-values"),
    *("workers", "budget", "timeline"),
}
_PAIRED = 4  # hyperparameters of the plots that have a panel for each pair
_ROWS = 30  # of the tables of failures and pruned trials
_MOST_BYTES = 8_000_000  # of a picture of the agent


def page(data: StudyData, *, pictures: Iterable[Path] = ()) -> str:
    """The page as HTML.

    Args:
        data: The study, finished or not.
        pictures: Where a GIF of the agent may lie; the first that does is shown.
    """
    plots, missing = _plots(data)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("coordinator.report.page", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "score": _score,
        "amount": amount,
        "duration": _duration,
        "param": _param,
        "interval": _interval,
    }
    failures, pruned = facts.failures(data), facts.pruned(data)
    winner = data.winner
    return environment.get_template("report.html.j2").render(
        data=data,
        study=data.study,
        spec=data.study.spec,
        states=data.states(),
        winner=winner,
        answer=answer(data.result) if data.result else None,
        race=race_told(data.result) if data.result else [],
        asked=judged.asked(data.study.spec),
        judged_by=judged.told(data.result, winner) if data.result and winner else "",
        front=data.result.get("front", []) if data.result else [],
        on_front=judged.on_front(data.result) if data.result else "",
        beside=judged.headings(data.result) if data.result else [],
        cells={
            row["rank"]: judged.cells(data.result, row) for row in data.finalists if data.result
        },
        first=data.study.spec.search.objectives[0],
        finalists=data.finalists,
        intervals=footnote(data.finalists) if data.finalists else "",
        runner_up=_runner_up(data),
        best=data.best,
        infeasible=judged.infeasible(data.study.spec, data.result) if data.result else "",
        searched=[*data.study.spec.agent.searched()],
        picture=_picture(pictures) if winner else None,
        plots=plots,
        missing=missing,
        account=account(data),
        meanings=KINDS,
        failures=failures[:_ROWS],
        failed=len(failures),
        pruned=[(trial.number, facts.why_pruned(trial)) for trial in pruned[:_ROWS]],
        pruned_at=facts.pruned_at(data),
        audited=facts.audited(data),
        machines=facts.machines(data),
        checklist=facts.checklist(data),
        space=facts.search_space(data),
        study_file=as_toml(data.study.spec),
        version=__version__,
        plotly=Markup(get_plotlyjs()),  # noqa: S704 - plotly's own code
    )


def _plots(data: StudyData) -> tuple[dict[str, list[dict[str, Any]]], list[tuple[str, str]]]:
    """The plots by section, and those that there is nothing for yet, with the reason."""
    found: dict[str, list[dict[str, Any]]] = {}
    missing = []
    for section, names in SECTIONS.items():
        found[section] = []
        for name in names:
            plot = catalog.PLOTS[name]
            if not catalog.applies(plot, data):
                continue
            try:
                params, aside = _params(name, data)
                figure, note = catalog.figure(name, data, params)
            except NothingToShowError as exc:
                missing.append((plot.title, str(exc)))
                continue
            # plotly escapes what would end the script.
            drawn = pio.to_html(
                figure,
                full_html=False,
                include_plotlyjs=False,
                config={**plotly_drawing.CONFIG, "displayModeBar": False},
                div_id=f"plot-{name}",
                default_width="100%",
                default_height=f"{figure.layout.height or 420}px",
            )
            found[section].append(
                {
                    "name": name,
                    "title": plot.title,
                    "note": f"{aside}{note}",
                    "wide": name in WIDE,
                    "html": Markup(drawn),  # noqa: S704
                }
            )
    return found, missing


def _params(name: str, data: StudyData) -> tuple[list[str], str]:
    """The hyperparameters that a plot of pairs shows here, and what to say about the others."""
    searched = [each.name for each in parameters(data.study.spec.agent)]
    if name not in ("contour", "rank") or len(searched) <= _PAIRED or len(data.complete) < 2:
        return [], ""
    ranked = [each for each in optunas.importances(data) if each in searched]
    chosen = [*ranked, *(each for each in searched if each not in ranked)][:_PAIRED]
    text = f"The {_PAIRED} most important of {len(searched)} hyperparameters. "
    return chosen, text


def _runner_up(data: StudyData) -> dict[str, Any] | None:
    """The second best finalist that might have won, and how far the winner is from it."""
    winner = data.winner
    others = [
        row
        for row in data.finalists
        if row is not winner and not row["failures"] and not row.get("excess", 0.0)
    ]
    if winner is None or not others or not judged.by_mean_score(data.result or {}):
        return None
    if "verdict" in winner:
        return None  # its race says how they compare
    # The two were picked among all that stand by these same seeds: Bonferroni over their pairs.
    apart = compare(winner["scores"], others[0]["scores"])
    pairs = math.comb(len(others) + 1, 2)
    return {**others[0], "apart": replace(apart, p=min(1.0, apart.p * pairs)), "pairs": pairs}


def _picture(pictures: Iterable[Path]) -> str | None:
    """The first GIF that can be read, as a data URI."""
    for path in pictures:
        try:
            if path.stat().st_size > _MOST_BYTES:
                continue
            content = path.read_bytes()
        except OSError:
            continue
        if content.startswith(b"GIF8"):
            return f"data:image/gif;base64,{base64.b64encode(content).decode()}"
    return None


def _score(value: float | None) -> str:
    return "–" if value is None else as_score(value)


def _interval(row: Mapping[str, Any]) -> str:
    return ends_told(certainty_of_row(row).ends, like=row["mean"])


def _param(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02} min"
