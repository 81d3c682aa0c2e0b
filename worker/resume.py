"""A trainer's state as bytes, and back: safetensors, in which nothing can be executed."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import structlog
from safetensors import SafetensorError
from safetensors.numpy import load, save

from trialfleet.artifacts import blobs
from trialfleet.errors import ArtifactStoreError, BlobDamagedError
from trialfleet.postgres.outages import is_outage
from trialfleet.store import checkpoints, leases
from trialfleet.store.leases import Claim
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from worker.trainers.protocol import Trainer

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore

log = structlog.get_logger()


class Checkpoints:
    """The checkpoints of one attempt.

    Args:
        database: Of this process.
        store: Where the bytes go.
        study: Of the claim.
        claim: Ours.
        every: Seconds between two that are stored.
    """

    def __init__(
        self,
        database: Database,
        store: ArtifactStore,
        study: Study,
        claim: Claim,
        *,
        every: float,
    ) -> None:
        self._database, self._store = database, store
        self._study, self._claim = study, claim
        self._every = every
        self._saved_at = time.monotonic()
        self._step: int | None = None  # of the bytes below, while they are not stored
        self._data = b""

    def restore(self, trainer: Trainer) -> int:
        """Put the trainer where the trial's checkpoint is, if there is one; its step, else 0.

        A damaged checkpoint is forgotten, and the trial starts over.
        """
        found = checkpoints.find(self._database, self._claim.trial_id)
        if found is None:
            return 0
        step, stored = found
        try:
            data = blobs.get(self._store, stored)
            if _digest(data) != self._study.digest:
                raise BlobDamagedError("it is another study's")
            trainer.load_state(load(data))
        except (BlobDamagedError, SafetensorError, KeyError, ValueError) as exc:
            log.warning(
                "checkpoint damaged, starting over", trial=self._claim.number, reason=str(exc)
            )
            leases.start_over(self._database, self._claim)
            return 0
        log.info("resumed", trial=self._claim.number, step=step)
        return step

    def take(self, trainer: Trainer, step: int) -> None:
        """Keep the state at a segment's end, for whenever it is to be stored."""
        self._step = step
        self._data = save(trainer.state(), metadata={"digest": self._study.digest})

    def save_if_due(self) -> None:
        """Store what was taken, if the last time is long enough ago. A failure is only logged."""
        if time.monotonic() - self._saved_at < self._every:
            return
        try:
            self.save()
        except Exception as exc:
            if not (is_outage(exc) or isinstance(exc, ArtifactStoreError)):
                raise
            log.warning("no checkpoint", trial=self._claim.number, reason=str(exc).splitlines()[0])

    def save(self) -> None:
        """Store what was taken since the last time, if anything was."""
        if self._step is None:
            return
        checkpoints.save(
            self._database,
            self._store,
            self._study.name,
            self._claim,
            step=self._step,
            data=self._data,
        )
        self._step, self._saved_at = None, time.monotonic()


def _digest(data: bytes) -> object:
    """The study's digest in a checkpoint's header: eight bytes of length, then JSON.

    Raises:
        BlobDamagedError: There is no such header, or no digest in it.
    """
    size = int.from_bytes(data[:8], "little")
    try:
        return json.loads(data[8 : 8 + size])["__metadata__"]["digest"]
    except (ValueError, LookupError, TypeError, RecursionError) as exc:
        raise BlobDamagedError("it has no header of ours") from exc
