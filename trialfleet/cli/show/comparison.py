"""Studies side by side, for a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from coordinator.certainty import ends_told
from coordinator.report.comparison import Comparison
from trialfleet.cli.show.fitting import Fitting, as_lines
from trialfleet.escape import printable
from trialfleet.study.measures import as_score


def table(comparison: Comparison) -> RenderableType:
    """The winners, the differences, and what they rest on."""
    columns = ("study", "trial", "fresh mean", "95% interval", "seeds", "search score")
    drawn = Table(title="winners on fresh seeds", title_justify="left")
    for column in columns:
        drawn.add_column(column, justify="left" if column == "study" else "right", no_wrap=True)
    rows = [
        (
            printable(study.name),
            str(found.trial),
            as_score(found.mean),
            ends_told(found.certainty.ends, like=found.mean),
            str(len(found.scores)),
            as_score(found.search_score),
        )
        for study, found in zip(comparison.studies, comparison.answers, strict=True)
    ]
    for row in rows:
        drawn.add_row(*map(Text, row))
    lines = []
    for pair in comparison.pairs:
        between = (
            "" if len(comparison.pairs) == 1 else f" {' - '.join(s.name for s in pair.studies)}"
        )
        difference = as_score(pair.difference.difference, like=pair.answers[0].mean, sign="+")
        lines += [f"difference{between}: {difference}, p = {pair.difference.p:.2g}", pair.verdict]
    lines += comparison.warnings
    return Group(
        Fitting(drawn, as_lines(columns, rows)),
        Text(printable_lines(lines)),
        Text(printable_lines([comparison.method, *_intervals(comparison)]), style="dim"),
    )


def printable_lines(lines: list[str]) -> str:
    """The lines, each of them one."""
    return "\n".join(map(printable, lines))


def _intervals(comparison: Comparison) -> list[str]:
    """What the studies' intervals need to hold."""
    return [
        f"{study.name}: {found.interval_told}"
        for study, found in zip(comparison.studies, comparison.answers, strict=True)
    ]
