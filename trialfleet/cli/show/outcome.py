"""What a study found, on a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from coordinator import judged
from coordinator.answer import Answer, answer, race_told, row_of_winner
from coordinator.audit import Audited
from coordinator.certainty import certainty_of_row, ends_told
from trialfleet.cli.show.fitting import Fitting, as_lines
from trialfleet.escape import printable
from trialfleet.store.studies import Study
from trialfleet.study.measures import as_score


def result_report(study: Study, audited: Audited | None = None) -> RenderableType:
    """What the final stage found, and what the pruning audit did."""
    assert study.result is not None
    result = study.result
    if "race" in result:
        return _raced(study, audited)
    table = Table(title=f"{study.name}: the finalists on fresh seeds", title_justify="left")
    beside = judged.headings(result)
    columns = ("", "trial", "search score", "fresh mean", "95% interval", "gap", *beside)
    for column in columns:
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    searched = study.spec.agent.searched()
    rows, details = [], []
    for row in result["finalists"]:
        params = ", ".join(f"{name}={_param(row['params'][name])}" for name in searched)
        details.append(f"trial {row['trial']}: {params}")
        if row["failures"]:
            numbers = ["failed", "", ""]
            details.append(f"  failed: {printable(row['failures'][0])}")
        else:
            numbers = [
                as_score(row["mean"]),
                ends_told(certainty_of_row(row).ends, like=row["mean"]),
                as_score(row["gap"], like=row["mean"], sign="+"),
            ]
        rows.append(
            (
                _place(result, row),
                str(row["trial"]),
                as_score(row["search_score"]),
                *numbers,
                *judged.cells(result, row),
            )
        )
        table.add_row(*rows[-1])
    found = answer(result)
    sure = "".join(f"{line}\n" for line in (found.interval_told, found.caveat_told) if line)
    lines = Text(f"{_winner(study, found)}\n{sure}{_judged_by(result)}{_best(study)}")
    if audited is not None:
        lines.append(f"\n{audited.text}")
    finalists = Fitting(table, as_lines(columns, rows))
    parts: list[RenderableType] = [finalists, Text("\n".join(details), style="dim"), lines]
    if warning := judged.infeasible(study.spec, result):
        parts.insert(0, Text(warning, style="bold"))
    return Group(*parts)


def _raced(study: Study, audited: Audited | None) -> RenderableType:
    """The answer of a race; its own figures are for the report."""
    assert study.result is not None
    found, winner = answer(study.result), row_of_winner(study.result)
    searched = study.spec.agent.searched()
    params = ", ".join(f"{name}={_param(winner['params'][name])}" for name in searched)
    lines = [
        _winner(study, found),
        found.interval_told,
        *([found.caveat_told] if found.caveat_told else []),
        *([found.until_told] if found.until else []),
        *([found.solved_told] if found.solved else []),
        f"the search had promised {as_score(found.search_score)}"
        f" (gap {as_score(found.gap, like=found.mean, sign='+')})",
        _best(study),
    ]
    if not found.confirmed:
        lines.insert(1, "it was chosen by this mean, which is a little optimistic for that")
    more = [*race_told(study.result), f"`trialfleet report {study.name}` has the race"]
    more += [audited.text] if audited is not None else []
    return Group(
        Text(f"{study.name}: trial {winner['trial']}: {params}", style="bold"),
        Text("\n".join(lines)),
        Text("\n".join(more), style="dim"),
    )


def _winner(study: Study, found: Answer) -> str:
    assert study.result is not None
    own = study.spec.task.objective is not None
    episodes = "" if own else f" × {study.result['model']['episodes']} episodes"
    middle = "" if found.iqm is None else f"; interquartile mean {as_score(found.iqm)}"
    mean = as_score(found.mean)
    return f"winner: trial {found.trial}, mean {mean} over {found.seeds_told}{episodes}{middle}"


def _best(study: Study) -> str:
    """The agent that is saved, or the model of one's own training."""
    assert study.result is not None
    model = study.result["model"]
    if study.spec.task.objective is not None:
        return f"best model: seed {model['seed']}, score {as_score(model['score'])}"
    return (
        f"best agent: seed {model['seed']}, mean {as_score(model['score'])} over "
        f"{model['episodes']} episodes"
    )


def _place(result: dict[str, Any], row: dict[str, Any]) -> str:
    if row["rank"] == result["winner"]:
        return "winner"
    return "front" if row["rank"] in result.get("front", []) else ""


def _judged_by(result: dict[str, Any]) -> str:
    """A line about the winner, where another number than the mean score decided."""
    (winner,) = (row for row in result["finalists"] if row["rank"] == result["winner"])
    told = judged.told(result, winner)
    front = judged.on_front(result)
    lines = [f"judged by: {told}"] if told else []
    if front:
        lines.append(f"{front}; the winner is its best by {result['objectives'][0]}")
    return "".join(f"{line}\n" for line in lines)


def saved(path: Path) -> Text:
    """Where the best agent lies now."""
    return Text(printable(f"saved: {path} and {path.with_suffix('.json')}"))


def _param(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
