"""What became of one trial, for a person and as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from trialfleet.cli.show.fitting import Fitting, as_lines
from trialfleet.cli.show.picture import duration
from trialfleet.escape import printable
from trialfleet.search.marks import IMPORTED, imported_from
from trialfleet.store.trials.record import RanBy, Record
from trialfleet.study.measures import decimal


def trial_report(study: str, record: Record) -> RenderableType:
    """How a trial ended and why, who ran it, and a failed one's traceback.

    Args:
        study: Optuna's name of its study.
        record: The trial.
    """
    scores = ", ".join(decimal(value, 2) for value in record.values)
    head = f"trial {record.number} of {study}: {record.state}{scores and ', score ' + scores}"
    parts: list[RenderableType] = [Text(head, style="bold")]
    told = record.attributes
    if "reason" in told:
        parts.append(_line("failed", told["reason"]))
    if pruned := told.get("pruned_by"):
        parts.append(_line("pruned", pruned.get("text", pruned)))
    audit = told.get("audit")
    if isinstance(audit, dict):
        # A pruned trial that was trained to its end all the same, or as far as it came.
        outcome = (
            f"score {decimal(audit['score'], 2)}" if "score" in audit else audit.get("reason", "")
        )
        parts.append(_line("trained on", outcome))
        told = {**audit, **told}
    if origin := imported_from(told):
        parts.append(_line("imported", f"{origin}; no worker has trained it"))
    else:
        parts.append(_attempts(record.attempts))
    if trace := told.get("traceback"):
        lines = [printable(line) for line in str(trace).rstrip().splitlines()]
        parts.append(Text("\n".join(["", *lines])))
    return Group(*parts)


def trial_as_dict(study: str, record: Record) -> dict[str, Any]:
    """The same as JSON, every attribute included."""
    return {
        "study": study,
        "trial": record.number,
        "state": record.state,
        "values": record.values,
        "started": _iso(record.started),
        "ended": _iso(record.ended),
        "reason": record.attributes.get("reason"),
        "pruned_by": record.attributes.get("pruned_by"),
        "imported": record.attributes.get(IMPORTED),
        "traceback": record.attributes.get("traceback"),
        "attempts": [
            {
                "worker": each.worker,
                "began": _iso(each.began),
                "ended": _iso(each.ended),
                "outcome": each.outcome,
                "step": each.step,
            }
            for each in record.attempts
        ],
        "attributes": record.attributes,
    }


def _line(name: str, text: Any) -> Text:
    return Text(f"{name}: {printable(str(text))}")


def _attempts(attempts: list[RanBy]) -> RenderableType:
    if not attempts:
        return Text("no worker has had it yet")
    columns = ("attempt", "worker", "began (UTC)", "for", "step", "outcome")
    rows = [
        (
            str(place),
            printable(each.worker),
            f"{each.began.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
            duration(((each.ended or datetime.now(UTC)) - each.began).total_seconds()),
            f"{each.step:,}",
            each.outcome or "running",
        )
        for place, each in enumerate(attempts, start=1)
    ]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, justify="right" if column in ("attempt", "step") else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    return Fitting(table, as_lines(columns, rows))


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()
