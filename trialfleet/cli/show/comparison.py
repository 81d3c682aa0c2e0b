"""Two studies side by side, for a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from coordinator.report.comparison import Comparison
from trialfleet.cli.show.fitting import Fitting, as_lines
from trialfleet.escape import printable
from trialfleet.study.measures import as_score


def table(comparison: Comparison) -> RenderableType:
    """The winners, the difference, and what it rests on."""
    columns = ("study", "trial", "fresh mean", "95% interval", "seeds", "search score")
    drawn = Table(title="winners on fresh seeds", title_justify="left")
    for column in columns:
        drawn.add_column(column, justify="left" if column == "study" else "right", no_wrap=True)
    rows = []
    for study, winner in zip(comparison.studies, comparison.winners, strict=True):
        low, high = winner["interval"]
        rows.append(
            (
                printable(study.name),
                str(winner["trial"]),
                as_score(winner["mean"]),
                f"{as_score(low)} … {as_score(high)}",
                str(len(winner["scores"])),
                as_score(winner["search_score"]),
            )
        )
    for row in rows:
        drawn.add_row(*map(Text, row))
    found = comparison.difference
    lines = [
        f"difference: {found.difference:+.1f}, 95% interval {found.low:+.1f} … {found.high:+.1f}, "
        f"p = {found.p:.2g}",
        f"{comparison.verdict}",
    ]
    if comparison.unlike:
        lines.append(f"not the same task: {'; '.join(comparison.unlike)}")
    return Group(
        Fitting(drawn, as_lines(columns, rows)),
        Text(printable_lines(lines)),
        Text(found.method, style="dim"),
    )


def printable_lines(lines: list[str]) -> str:
    """The lines, each of them one."""
    return "\n".join(map(printable, lines))
