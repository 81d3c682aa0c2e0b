"""Questions of somebody who watches some of a study's trials; nothing here writes or locks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from optuna.distributions import json_to_distribution
from sqlalchemy import Connection, text

from trialfleet.store.trials.reading import TRAINED

# The last fence tells whether a trial has begun anew since it was looked at. The best are those
# that have something to be watched: nobody measured a curve of an imported one.
TRIALS = text(f"""
    WITH best AS (
        SELECT t.trial_id FROM public.trials t JOIN public.trial_values v USING (trial_id)
        WHERE t.study_id = :study_id AND t.state = 'COMPLETE' AND v.objective = 0
          AND {TRAINED}
        ORDER BY :sign * v.value DESC, t.number LIMIT :best
    )
    SELECT t.trial_id, t.number, t.state::text AS state, v.value,
           (SELECT max(a.fence) FROM fleet.attempts a WHERE a.trial_id = t.trial_id) AS fence
    FROM public.trials t
    LEFT JOIN public.trial_values v ON v.trial_id = t.trial_id AND v.objective = 0
    WHERE t.study_id = :study_id
      AND (:every OR t.number = ANY(:numbers) OR (:running AND t.state = 'RUNNING')
           OR t.trial_id IN (SELECT trial_id FROM best))
    ORDER BY t.number
""")  # noqa: S608
PARAMS = text("""
    SELECT trial_id, param_name, param_value, distribution_json FROM public.trial_params
    WHERE trial_id = ANY(:trial_ids)
""")
ATTRIBUTES = text("""
    SELECT trial_id, key, value_json FROM public.trial_user_attributes
    WHERE trial_id = ANY(:trial_ids) AND key = ANY(:keys)
""")


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A trial as it stands now."""

    trial_id: int
    number: int
    state: str
    value: float | None
    fence: int  # of its last attempt; 0 before the first

    @property
    def finished(self) -> bool:
        """Whether it will never change again."""
        return self.state in ("COMPLETE", "PRUNED", "FAIL")


def watched(
    connection: Connection,
    study_id: int,
    *,
    every: bool = False,
    numbers: Iterable[int] = (),
    running: bool = False,
    best: int = 0,
    maximize: bool = True,
) -> list[Watched]:
    """Trials of one Optuna study, by number.

    Args:
        connection: Of a transaction.
        study_id: Optuna's.
        every: All of them.
        numbers: Those with these numbers.
        running: Those that run.
        best: So many COMPLETE ones with the best first value.
        maximize: Whether more of it is better.
    """
    values = {
        "study_id": study_id,
        "every": every,
        "numbers": list(numbers),
        "running": running,
        "best": best,
        "sign": 1.0 if maximize else -1.0,
    }
    return [
        Watched(**{**row._mapping, "fence": row.fence or 0})
        for row in connection.execute(TRIALS, values)
    ]


def params(connection: Connection, trial_ids: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Optuna's values for the searched parameters, by trial; those without any are left out."""
    found: dict[int, dict[str, Any]] = {}
    for row in connection.execute(PARAMS, {"trial_ids": list(trial_ids)}):
        distribution = json_to_distribution(row.distribution_json)
        value = distribution.to_external_repr(row.param_value)
        found.setdefault(row.trial_id, {})[row.param_name] = value
    return found


def attributes(
    connection: Connection, trial_ids: Iterable[int], keys: Iterable[str]
) -> dict[int, dict[str, Any]]:
    """User attributes of these names, by trial."""
    found: dict[int, dict[str, Any]] = {}
    values = {"trial_ids": list(trial_ids), "keys": list(keys)}
    for row in connection.execute(ATTRIBUTES, values):
        found.setdefault(row.trial_id, {})[row.key] = json.loads(row.value_json)
    return found
