"""Whose an artifact is: a row for each, whatever store its bytes lie in.

- The row is there before the bytes, so no bytes are ever without one, whoever is killed when.
- An artifact's name has the identity of this database in it: two deployments that share a bucket
  or a folder never touch each other's. All but checkpoints have hexadecimal names, because
  optuna-dashboard serves no other; what they are and whose, the row says.
- `sweep` removes what has no owner any more: artifacts of deleted studies, checkpoints that their
  trial does not point to, models of attempts that did not finish. What a live attempt has written
  is its own. A worker that was frozen while it wrote may wake up after its lease, and write once
  more; so the row stays for an hour after the first removal, and the bytes are removed again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal
from uuid import NAMESPACE_OID, uuid5

from sqlalchemy import text

from trialfleet.artifacts import blobs
from trialfleet.artifacts.blobs import Stored
from trialfleet.artifacts.stores import open_store
from trialfleet.errors import ArtifactStoreError, UsageError
from trialfleet.store.leases import Claim
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore

Kind = Literal["checkpoint", "model", "best"]

REGISTER = text("""
    INSERT INTO fleet.artifacts (artifact, store, kind, search_id, trial_id, fence)
    SELECT :label || '-' || replace(CAST(id AS text), '-', ''), :store, :kind, :search_id,
           :trial_id, :fence
    FROM fleet.identity
    ON CONFLICT (artifact) DO UPDATE SET removed_at = NULL
    RETURNING artifact
""")
FORGET = text("DELETE FROM fleet.artifacts WHERE artifact = :artifact")
# Rows from before there were fences in this table are judged by what points to them.
OWNERLESS = text("""
    SELECT a.artifact, a.store, a.removed_at IS NOT NULL AS again
    FROM fleet.artifacts a
    LEFT JOIN fleet.studies s USING (search_id)
    LEFT JOIN fleet.attempts t USING (fence)
    WHERE (s.search_id IS NULL
        OR a.fence IS NOT NULL AND t.fence IS NULL
        OR a.kind = 'model' AND t.outcome <> 'finished'
        OR a.kind = 'checkpoint' AND (a.fence IS NULL OR t.ended_at IS NOT NULL)
            AND NOT EXISTS (SELECT 1 FROM fleet.checkpoints c WHERE c.artifact = a.artifact))
      AND (a.removed_at IS NULL OR a.removed_at < now() - interval '1 hour')
    ORDER BY a.artifact
""")
MARK_REMOVED = text("UPDATE fleet.artifacts SET removed_at = now() WHERE artifact = :artifact")


def put(
    database: Database,
    store: ArtifactStore,
    study: Study,
    *,
    kind: Kind,
    label: str,
    data: bytes,
    claim: Claim | None = None,
) -> Stored:
    """Store an artifact of the study.

    Args:
        database: Of this process.
        store: The study's.
        study: Whose it is.
        kind: What it is.
        label: Tells it from every other artifact of this database; the same label replaces it.
        data: Its bytes.
        claim: Of the attempt that it comes from; None for the study's own.

    Raises:
        ArtifactStoreError: The store is full, read-only or away.
    """
    values = {
        "label": label if kind == "checkpoint" else str(uuid5(NAMESPACE_OID, label)),
        "store": study.artifacts,
        "kind": kind,
        "search_id": study.search_id,
        "trial_id": claim.trial_id if claim else None,
        "fence": claim.fence if claim else None,
    }
    with database.transaction() as connection:
        artifact = str(connection.execute(REGISTER, values).scalar_one())
    return blobs.put(store, artifact, data)


def remove(database: Database, store: ArtifactStore, artifact: str) -> None:
    """Remove what this attempt, or an earlier one of its trial, has stored.

    Raises:
        ArtifactStoreError: The store is read-only or away.
    """
    blobs.remove(store, artifact)
    with database.transaction() as connection:
        connection.execute(FORGET, {"artifact": artifact})


def sweep(database: Database, *, seconds: float = 5.0) -> int:
    """Remove the artifacts of this database that have no owner, whichever study they were of.

    A store that fails, or that this process cannot open, is left for the next time.

    Args:
        database: Of this process.
        seconds: After which the others are left for the next time, too: whoever sweeps has more
            to do, and is to hear a stop.

    Returns:
        How many are left.
    """
    with database.transaction() as connection:
        rows = connection.execute(OWNERLESS).all()
    deadline = time.monotonic() + seconds
    stores: dict[str, ArtifactStore | None] = {}  # None: it has failed
    left = 0
    for place, row in enumerate(rows, start=1):
        try:
            if row.store not in stores:
                stores[row.store] = None
                stores[row.store] = open_store(row.store, database)
            if (store := stores[row.store]) is None:
                left += 1
                continue
            blobs.remove(store, row.artifact)
        except (ArtifactStoreError, UsageError):
            stores[row.store] = None
            left += 1
        else:
            with database.transaction() as connection:
                connection.execute(
                    FORGET if row.again else MARK_REMOVED, {"artifact": row.artifact}
                )
        if time.monotonic() >= deadline:
            return left + len(rows) - place
    return left
