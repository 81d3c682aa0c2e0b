"""Where an interrupted trial goes on: at most one checkpoint per trial, the newest that is safe.

A checkpoint's bytes are written first, under a name of their own; then, in one transaction that the
guard refuses to whoever has lost the trial, the trial's row points at them; only then is the
previous generation removed. Killed anywhere in between, one whole generation is left.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy import text

from trialfleet.artifacts import blobs
from trialfleet.artifacts.blobs import Stored
from trialfleet.errors import ArtifactStoreError
from trialfleet.store.leases import Claim
from trialfleet.store.storage import Database
from trialfleet.store.trials import life

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore

FIND = text("""
    SELECT step, artifact, sha256, size FROM fleet.checkpoints WHERE trial_id = :trial_id
""")
POINT = text("""
    INSERT INTO fleet.checkpoints (trial_id, step, rungs, artifact, sha256, size)
    VALUES (:trial_id, :step, :rungs, :artifact, :sha256, :size)
    ON CONFLICT (trial_id) DO UPDATE SET step = excluded.step, rungs = excluded.rungs,
        artifact = excluded.artifact, sha256 = excluded.sha256, size = excluded.size,
        created_at = now()
""")
ENDED = text("""
    SELECT c.trial_id, c.artifact
    FROM fleet.studies s
    JOIN public.trials t ON t.study_id IN (s.search_id, s.final_id)
    JOIN fleet.checkpoints c USING (trial_id)
    WHERE s.name = :study AND t.state IN ('COMPLETE', 'PRUNED', 'FAIL')
""")
FORGET = text("DELETE FROM fleet.checkpoints WHERE trial_id = :trial_id")


def find(database: Database, trial_id: int) -> tuple[int, Stored] | None:
    """The trial's checkpoint: its environment step, and its blob."""
    with database.transaction() as connection:
        row = connection.execute(FIND, {"trial_id": trial_id}).one_or_none()
    if row is None:
        return None
    return row.step, Stored(artifact=row.artifact, sha256=row.sha256, size=row.size)


def save(
    database: Database, store: ArtifactStore, study: str, claim: Claim, *, step: int, data: bytes
) -> None:
    """Make `data` the trial's checkpoint at `step`.

    Raises:
        ArtifactStoreError: The store is full, read-only or away; the old checkpoint still stands.
    """
    previous = find(database, claim.trial_id)
    name = f"{study}-{claim.stage}-{claim.number}-checkpoint-{claim.fence}-{step}"
    stored = blobs.put(store, name, data)
    with database.transaction(claim.fence) as connection:
        # The pruner is asked at a segment's end, and not again before its checkpoint is safe.
        rungs = life.count_rungs(connection, claim.trial_id)
        values = {"trial_id": claim.trial_id, "step": step, "rungs": rungs, **vars(stored)}
        connection.execute(POINT, values)
    if previous is not None and previous[1].artifact != name:
        _remove(store, previous[1].artifact)


def sweep(database: Database, store: ArtifactStore, study: str) -> None:
    """Remove the checkpoints of trials that have ended."""
    with database.transaction() as connection:
        rows = connection.execute(ENDED, {"study": study}).all()
    for row in rows:
        _remove(store, row.artifact)
        with database.transaction() as connection:
            connection.execute(FORGET, {"trial_id": row.trial_id})


def _remove(store: ArtifactStore, artifact: str) -> None:
    # A leftover costs space and nothing else.
    with suppress(ArtifactStoreError):
        blobs.remove(store, artifact)
