"""User attributes that tell where a trial comes from, if not from the study's sampler."""

from __future__ import annotations

ENQUEUED = "enqueued"  # somebody asked for it: where
IMPORTED = "imported"  # nobody here trained it: {"from": …, "number": …}
