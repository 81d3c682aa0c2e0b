"""User attributes that tell where a trial comes from, if not from the study's sampler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ENQUEUED = "enqueued"  # somebody asked for it: where
# Nobody here trained it: {"from": a file or study, "number" or "line": where in it, "id": which}.
IMPORTED = "imported"


def imported_from(attributes: Mapping[str, Any]) -> str | None:
    """Where a trial with these user attributes was imported from; None if it was not."""
    origin = attributes.get(IMPORTED)
    if not isinstance(origin, Mapping):
        return None
    place = f"line {origin['line']}" if "line" in origin else f"trial {origin.get('number')}"
    return f"{place} of {origin.get('from')}"


def is_ours(given: Mapping[str, Any]) -> bool:
    """Whether a trial of a final stage with these user attributes is one of Trialfleet's own."""
    finalist, seeds, block = given.get("finalist"), given.get("seeds"), given.get("block", 0)
    return (
        type(finalist) is int
        and type(block) is int
        and isinstance(seeds, list)
        and bool(seeds)
        and all(type(seed) is int for seed in seeds)
    )
