"""A study as CSV, a trial a row, and as JSON, all of it."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import asdict
from io import StringIO
from typing import Any

from optuna.trial import FrozenTrial

from coordinator.report import facts
from coordinator.report.account import account
from coordinator.report.data import StudyData
from trialfleet.search.marks import imported_from

# A spreadsheet takes a text that begins like this for a formula, and runs it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(data: StudyData) -> str:
    """The trials of both stages; a column `param.NAME` for each hyperparameter.

    Also a column `constraint.MEASURE` for each measure that is bounded. `trialfleet import` reads
    all of these.
    """
    stages = (("search", data.search), ("final", data.final))
    params = sorted({name for trial in data.search for name in trial.params})
    written = StringIO()
    rows = csv.writer(written, lineterminator="\n")
    constraints = data.study.spec.constraints
    bounded = [*dict.fromkeys(each.bounded for each in constraints)]
    values = [f"value.{at}" for at in range(len(data.maximize))]
    rows.writerow(
        [
            *("stage", "number", "state"),
            *(["value"] if len(values) == 1 else values),
            *(f"constraint.{name}" for name in bounded),
            *("scores", "seeds", "steps", "attempts", "seconds", "worker", "device", "reason"),
            "imported",
            *(_text(f"param.{name}") for name in params),
        ]
    )
    for stage, trials in stages:
        for trial in trials:
            met = trial.user_attrs.get("constraints", {})
            found = {each.bounded: met.get(each.label) for each in constraints}
            rows.writerow(_row(stage, trial, params, len(values), [*found.values()]))
    return written.getvalue()


def _row(
    stage: str,
    trial: FrozenTrial,
    params: list[str],
    objectives: int,
    constraints: list[float | None],
) -> list[Any]:
    attributes = trial.user_attrs
    found = list(trial.values or [])
    reason = facts.why_pruned(trial) if "pruned_by" in attributes else attributes.get("reason", "")
    return [
        *(stage, trial.number, trial.state.name),
        *(found + [""] * objectives)[:objectives],
        *("" if each is None else each for each in constraints),
        " ".join(map(str, attributes.get("scores", []))),
        " ".join(map(str, attributes.get("seeds", []))),
        max(trial.intermediate_values, default=""),
        attributes.get("attempts", ""),
        trial.duration.total_seconds() if trial.duration else "",
        *(_text(attributes.get(key, "")) for key in ("worker", "device")),
        _text(reason),
        _text(imported_from(attributes) or ""),
        *(_text(trial.params.get(name, "")) for name in params),
    ]


def as_json(data: StudyData) -> str:
    """Study, result, trials with their curves and attributes, attempts and the account."""
    study = data.study
    audited = facts.audited(data)
    whole = {
        "study": study.name,
        "stage": study.stage,
        "reason": study.reason,
        "seconds": study.seconds,
        "read_at": data.read_at.isoformat(),
        "version": study.version,
        "digest": study.digest,
        "directions": ["maximize" if more else "minimize" for more in data.maximize],
        "study_file": study.spec.model_dump(mode="json", exclude_none=True),
        "result": study.result,
        "decisions": [asdict(each) for each in data.decisions],
        "states": data.states(),
        "account": [asdict(entry) for entry in account(data)],
        "audit": asdict(audited) if audited else None,
        "checklist": dict(facts.checklist(data)),
        "search": [_trial(trial, data.returns) for trial in data.search],
        "final": [_trial(trial, data.final_returns) for trial in data.final],
        "attempts": [
            {
                "stage": "final" if attempt.study_id == study.final_id else "search",
                "number": attempt.number,
                "worker": attempt.worker,
                "started": attempt.started.isoformat(),
                "ended": attempt.ended.isoformat(),
                "outcome": attempt.outcome,
                "step": attempt.step,
            }
            for attempt in data.attempts
        ],
    }
    return json.dumps(_plain(whole), indent=1, allow_nan=False) + "\n"


def _trial(trial: FrozenTrial, returns: dict[int, list[tuple[int, list[float]]]]) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state.name,
        "values": trial.values,
        "params": trial.params,
        "started": trial.datetime_start.isoformat() if trial.datetime_start else None,
        "ended": trial.datetime_complete.isoformat() if trial.datetime_complete else None,
        "returns": dict(returns.get(trial.number, [])),
        "attributes": trial.user_attrs,
    }


def _plain(value: Any) -> Any:
    """The value with null for every number that JSON has no text for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _text(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
