"""The verdict on a pruned trial that is trained to its end all the same, for the pruning audit.

It is stored as one system attribute before the training goes on: whoever takes the trial up later
ends it by that verdict, and nobody judges it again. It also holds the rungs that the trial had
completed, since an attempt that starts at an earlier checkpoint begins without them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, text

KEY = "fleet:verdict"

READ = text("""
    SELECT value_json FROM public.trial_system_attributes
    WHERE trial_id = :trial_id AND key = :key
""")
AMONG = text("""
    SELECT trial_id FROM public.trial_system_attributes
    WHERE trial_id = ANY(:trial_ids) AND key = :key
""")
SET = text("""
    INSERT INTO public.trial_system_attributes (trial_id, key, value_json)
    SELECT :trial_id, * FROM unnest(CAST(:keys AS text[]), CAST(:values AS text[]))
    ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json
""")


@dataclass(frozen=True, kw_only=True)
class StoredVerdict:
    """How a pruned trial ends, whatever its training comes to from here."""

    step: int  # environment steps after which it was pruned
    value: float  # the trial's, for good
    attributes: Mapping[str, Any]  # user attributes of the ending: scores, pruned_by
    # Optuna's attributes: of the rungs, and of the constraints
    rungs: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """JSON for the system attribute."""
        return asdict(self)


def read(connection: Connection, trial_id: int) -> StoredVerdict | None:
    """The verdict on an audited trial; None if there is none."""
    found = connection.scalar(READ, {"trial_id": trial_id, "key": KEY})
    return None if found is None else StoredVerdict(**json.loads(found))


def among(connection: Connection, trial_ids: Sequence[int]) -> set[int]:
    """Which of the trials are audited."""
    return set(connection.scalars(AMONG, {"trial_ids": list(trial_ids), "key": KEY}))


def set_system_attributes(
    connection: Connection, trial_id: int, attributes: Mapping[str, Any]
) -> None:
    """Write system attributes of the trial, such as the rungs of its verdict."""
    values = [json.dumps(each, allow_nan=False) for each in attributes.values()]
    connection.execute(SET, {"trial_id": trial_id, "keys": [*attributes], "values": values})
