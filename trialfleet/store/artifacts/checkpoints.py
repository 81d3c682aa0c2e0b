"""Where an interrupted trial goes on: at most one checkpoint per trial, the newest that is safe.

A checkpoint's bytes are written first, under a name of their own; then, in one transaction that the
guard refuses to whoever has lost the trial, the trial's row points at them; only then is the
previous generation removed. Killed anywhere in between, one whole generation is left.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy import text

from trialfleet.artifacts.blobs import Stored
from trialfleet.errors import ArtifactStoreError
from trialfleet.store.artifacts import owned
from trialfleet.store.leases import Claim
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
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
FORGET_ENDED = text("""
    DELETE FROM fleet.checkpoints c USING public.trials t
    WHERE t.trial_id = c.trial_id AND t.study_id = ANY(:study_ids)
      AND t.state IN ('COMPLETE', 'PRUNED', 'FAIL')
""")


def find(database: Database, trial_id: int) -> tuple[int, Stored] | None:
    """The trial's checkpoint: its environment step, and its blob."""
    with database.transaction() as connection:
        row = connection.execute(FIND, {"trial_id": trial_id}).one_or_none()
    if row is None:
        return None
    return row.step, Stored(artifact=row.artifact, sha256=row.sha256, size=row.size)


def save(
    database: Database, store: ArtifactStore, study: Study, claim: Claim, *, step: int, data: bytes
) -> None:
    """Make `data` the trial's checkpoint at `step`.

    Raises:
        ArtifactStoreError: The store is full, read-only or away; the old checkpoint still stands.
    """
    previous = find(database, claim.trial_id)
    label = f"{study.name}-{claim.stage}-{claim.number}-checkpoint-{claim.fence}-{step}"
    stored = owned.put(
        database, store, study, kind="checkpoint", label=label, data=data, claim=claim
    )
    with database.transaction(claim.fence) as connection:
        # The pruner is asked at a segment's end, and not again before its checkpoint is safe.
        rungs = life.count_rungs(connection, claim.trial_id)
        values = {"trial_id": claim.trial_id, "step": step, "rungs": rungs, **vars(stored)}
        connection.execute(POINT, values)
    if previous is not None and previous[1].artifact != stored.artifact:
        # What is left behind costs space until the sweep finds it.
        with suppress(ArtifactStoreError):
            owned.remove(database, store, previous[1].artifact)


def forget_ended(database: Database, study: Study) -> None:
    """Forget the checkpoints of trials that have ended; the sweep then removes their bytes."""
    with database.transaction() as connection:
        connection.execute(FORGET_ENDED, {"study_ids": study.optuna_ids})
