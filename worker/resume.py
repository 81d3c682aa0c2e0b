"""A trainer's state as bytes, and back: safetensors, in which nothing can be executed."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from trialfleet.artifacts import blobs
from trialfleet.errors import ArtifactStoreError, BlobDamagedError
from trialfleet.postgres.outages import is_outage
from trialfleet.store import leases
from trialfleet.store.artifacts import checkpoints
from trialfleet.store.leases import Claim
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from worker.provenance import Provenance
from worker.trainers.protocol import Trainer

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore

log = structlog.get_logger()

_HEADER = "trialfleet"  # the key of our own header in that of safetensors
_DAMAGED = "checkpoint damaged, starting over"


class StateRefusedError(Exception):
    """A trainer was given a state that is not of its job."""


class Checkpoints:
    """The checkpoints of one attempt.

    Args:
        database: Of this process.
        store: Where the bytes go.
        study: Of the claim.
        claim: Ours.
        provenance: Of this worker.
        portable: Whether its trainer is; see there.
        every: Seconds between two that are stored.

    Attributes:
        trained_by: The provenance of everybody whose training is in the trainer's state.
    """

    def __init__(
        self,
        database: Database,
        store: ArtifactStore,
        study: Study,
        claim: Claim,
        *,
        provenance: Provenance,
        portable: bool,
        every: float,
    ) -> None:
        self._database, self._store = database, store
        self._study, self._claim = study, claim
        self._provenance, self._every = provenance, every
        self._build = provenance.build(portable=portable)
        self.trained_by: list[dict[str, Any]] = [asdict(provenance)]
        self._saved_at = time.monotonic()
        self._step: int | None = None  # of the state below, while it is not stored
        self._state: dict[str, NDArray[Any]] = {}

    def restore(self, trainer: Trainer) -> int:
        """Put the trainer where the trial's checkpoint is, if there is one; its step, else 0.

        A checkpoint that is damaged, or that was made on another device or with other versions of
        what computes, is forgotten, and the trial starts over: gone on with, its result would be
        neither build's.

        Raises:
            StateRefusedError: The trainer did not take it. It is forgotten, too; the trial starts
                over, with another trainer.
        """
        found = checkpoints.find(self._database, self._claim.trial_id)
        if found is None:
            return 0
        step, stored = found
        try:
            data = blobs.get(self._store, stored)
            header = _header(data)
            if header["digest"] != self._study.digest:
                raise BlobDamagedError("it is another study's")
            others = _differences(header["build"], self._build)
            if others:
                return self._start_over("checkpoint of another build, starting over", others)
            state = load(data)
        except (BlobDamagedError, SafetensorError, KeyError, TypeError, ValueError) as exc:
            return self._start_over(_DAMAGED, str(exc))
        try:
            trainer.load_state(state)
        except (LookupError, TypeError, ValueError, ArithmeticError) as exc:
            self._start_over(_DAMAGED, str(exc))
            raise StateRefusedError from exc
        self.trained_by = [*header["trained_by"], asdict(self._provenance)]
        log.info("resumed", trial=self._claim.number, step=step)
        return step

    def _start_over(self, event: str, reason: str) -> int:
        log.warning(event, trial=self._claim.number, reason=reason)
        leases.start_over(self._database, self._claim)
        return 0

    def take(self, trainer: Trainer, step: int) -> None:
        """Keep the state at a segment's end, for whenever it is to be stored."""
        state = trainer.state()
        if state is not None:
            self._step, self._state = step, state

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
        header = {
            "digest": self._study.digest,
            "build": self._build,
            "trained_by": self.trained_by,
        }
        # safetensors writes what lies at an array's address, whatever its strides are.
        # (ascontiguousarray would make a scalar an array of one.)
        arrays = {name: np.asarray(array, order="C") for name, array in self._state.items()}
        checkpoints.save(
            self._database,
            self._store,
            self._study,
            self._claim,
            step=self._step,
            data=save(arrays, metadata={_HEADER: json.dumps(header)}),
        )
        self._step, self._saved_at = None, time.monotonic()


def _header(data: bytes) -> dict[str, Any]:
    """Our part of a checkpoint's header, which is eight bytes of length and then JSON.

    Raises:
        BlobDamagedError: There is no such header, or nothing of ours in it.
    """
    size = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][_HEADER])
        return {name: header[name] for name in ("digest", "build", "trained_by")}
    except (ValueError, LookupError, TypeError, RecursionError) as exc:
        raise BlobDamagedError("it has no header of ours") from exc


def _differences(there: dict[str, str], here: dict[str, str]) -> str:
    """What differs between the checkpoint's build and ours, in words."""
    return ", ".join(
        f"{name} {there.get(name)} there, {value} here"
        for name, value in here.items()
        if there.get(name) != value
    )
