"""A row of the database as Optuna's FrozenTrial, and a FrozenTrial's parts as the database's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Row


@lru_cache(maxsize=4096)
def distribution(text: str) -> BaseDistribution:
    """The distribution that `text` describes; a study's trials share theirs."""
    return json_to_distribution(text)


@lru_cache(maxsize=4096)
def distribution_text(of: BaseDistribution) -> str:
    """What the database holds of a distribution."""
    return distribution_to_json(of)


def local(stored: datetime | None) -> datetime | None:
    """A stored timestamp, naive UTC, as Optuna shows it: naive, in this process's time zone."""
    return stored and stored.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def utc(shown: datetime | None) -> datetime | None:
    """The other way round."""
    return shown and shown.astimezone(UTC).replace(tzinfo=None)


def attributes(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Attributes from their names and JSON texts; what is no JSON stays text."""
    return {key: _decoded(value) for key, value in pairs}


def _decoded(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:  # nobody but a person at a prompt writes that
        return value


def keys_and_values(attrs: Mapping[str, Any]) -> dict[str, list[str]]:
    """Attributes as the statements take them."""
    return {"keys": [*attrs], "values": [json.dumps(value) for value in attrs.values()]}


def frozen(row: Row[Any]) -> FrozenTrial:
    """The trial of a row with the columns of `statements.TRIAL`."""
    distributions = dict(zip(row.names, map(distribution, row.distributions), strict=True))
    return FrozenTrial(
        number=row.number,
        state=TrialState[row.state],
        value=None,
        values=row.objectives or None,
        datetime_start=local(row.datetime_start),
        datetime_complete=local(row.datetime_complete),
        params={
            name: distributions[name].to_external_repr(value)
            for name, value in zip(row.names, row.params, strict=True)
        },
        distributions=distributions,
        user_attrs=attributes(row.user_attrs),
        system_attrs=attributes(row.system_attrs),
        intermediate_values=dict(zip(row.steps, row.curve, strict=True)),
        trial_id=row.trial_id,
    )
