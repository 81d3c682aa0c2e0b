"""One attempt at a trial: configuration -> segments -> reports, pruning, checkpoint, score."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray
from safetensors.numpy import save
from sqlalchemy.exc import SQLAlchemyError

from trialfleet.artifacts.blobs import Stored
from trialfleet.errors import FleetError
from trialfleet.postgres.retry import patiently
from trialfleet.search.pruners import make_judge
from trialfleet.settings import Settings
from trialfleet.store.artifacts import owned
from trialfleet.store.leases import Claim
from trialfleet.store.optuna.history import Curves
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials.optuna_rows import artifact_link
from trialfleet.store.trials.verdicts import StoredVerdict
from worker.audit import Audit, Remembering
from worker.configuration import Opened, open_trial
from worker.measuring import Measuring, resumed
from worker.provenance import Provenance
from worker.reports import Reports
from worker.resume import Checkpoints, StateRefusedError
from worker.stop import StopRequested
from worker.trainers.environment import Environment, reward_threshold
from worker.trainers.protocol import Evaluation, Event, Job, Progress, Score, Trainer, Waiting
from worker.trainers.registry import algorithm

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore

T = TypeVar("T")
log = structlog.get_logger()

# A trainer that still answers ends at its limit by itself; one that does not is given this more.
_GRACE = 10.0  # seconds


class Watch(Protocol):
    """What an attempt asks and tells between two steps of its work."""

    def check(self) -> None:
        """Raise to end the attempt: a stop was asked for, or the lease is lost."""

    def wait(self, seconds: float) -> None:
        """Pause, under the same conditions."""

    def training(self, seconds: float) -> AbstractContextManager[None]:
        """Inside runs the trainer's code, which is to be back after so many seconds."""

    def resume(self, step: int) -> None:
        """Hear where the attempt begins."""

    def progress(self, step: int, *, agents: int) -> None:
        """Hear where it stands."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an attempt came to; `worker.loop` writes it."""

    state: Literal["COMPLETE", "PRUNED"]
    values: list[float]  # of each objective
    attributes: dict[str, Any]  # of ours
    system_attributes: dict[str, Any]  # of Optuna's
    reports: Reports  # to be sent again if the ending finds that some are missing


class TimeLimitError(Exception):
    """A trial has trained for longer than its study allows."""


class Attempt:
    """One run of a trial by this worker.

    Args:
        database: Of this process.
        store: The study's artifact store.
        study: Of the claim.
        claim: Ours.
        history: Of the study's search, for its pruner.
        watch: Looked at every fraction of a second.
        provenance: Of this worker; says where to train.
        settings: Patience, and time between checkpoints.
    """

    def __init__(
        self,
        database: Database,
        store: ArtifactStore,
        study: Study,
        claim: Claim,
        *,
        history: Curves,
        watch: Watch,
        provenance: Provenance,
        settings: Settings,
    ) -> None:
        self._database, self._store = database, store
        self._study, self._claim, self._watch = study, claim, watch
        self._history = history
        self._storage = database.optuna_storage(claim.fence)
        self._provenance, self._settings = provenance, settings
        task = study.spec.task
        self._stall = task.stall_seconds or math.inf
        self._ends = time.monotonic() + (task.max_seconds or math.inf)
        self._audit = Audit(database, study, claim)
        self._judge: Remembering | None = None  # of the search's trials
        self._measuring = Measuring(study.spec)
        self._trainers: Exception | None = None  # what the trainer's code has raised

    def is_trainers(self, error: BaseException) -> bool:
        """Whether the trainer's code has raised this: then it says nothing of our database."""
        return error is self._trainers

    @property
    def verdict(self) -> StoredVerdict | None:
        """By which the trial ends as PRUNED, even if the training that goes on fails."""
        return self._audit.verdict

    def run(self) -> Outcome:
        """Train the trial to its end, or to where its pruner ends it.

        Raises:
            NonFiniteError: A loss, parameter or return of it is not finite.
            OutsideReturnsError: A return of it is outside of `task.returns`.
            TimeLimitError: It has taken longer than `task.max_seconds`.
            LeaseLostError, StopRequested: What the watch says; a stop leaves a checkpoint.
        """
        opened = self._patiently(self._open)
        try:
            return self._run_anew(opened)
        except StateRefusedError:
            return self._run_anew(opened)  # without the checkpoint

    def _run_anew(self, opened: Opened) -> Outcome:
        """Train with a trainer that knows nothing but what it is given here."""
        with self._training():
            trainer = algorithm(self._study.spec.task.algorithm).make_trainer(opened.job)
        try:
            return self._run(opened, trainer)
        finally:
            with self._training():
                _close(trainer)

    def _run(self, opened: Opened, trainer: Trainer) -> Outcome:
        started, job = time.monotonic(), opened.job
        checkpoints = Checkpoints(
            self._database,
            self._store,
            self._study,
            self._claim,
            provenance=self._provenance,
            portable=trainer.portable,
            every=self._settings.checkpoint_every,
        )
        step = self._patiently(lambda: checkpoints.restore(trainer))
        self._measuring = self._patiently(
            lambda: resumed(self._database, self._claim.trial_id, self._study.spec, step)
        )
        self._patiently(self._audit.resume)
        self._watch.resume(step)
        reports = self._reports(opened, step)
        try:
            verdict, last, scores = self._train(job, trainer, reports, checkpoints)
            with self._training():
                taken = self._measuring.take(trainer, scores, last)
        except StopRequested:
            # Best effort, and quick: the trial is given back with or without it.
            with suppress(SQLAlchemyError, FleetError):
                if reports.try_to_flush():
                    checkpoints.save()
            raise
        self._patiently(reports.flush)
        values = taken.values
        attributes: dict[str, Any] = {
            "scores": scores.tolist(),
            **taken.attributes,
            "seeds": list(job.seeds),
            "steps": last * len(job.seeds),
            "seconds": round(time.monotonic() - started, 3),
            "trained_by": checkpoints.trained_by,
        }
        system = {**reports.attributes, **taken.system}
        if verdict is not None:
            if last > verdict.step:
                attributes["audit"] = {
                    "score": values[0],
                    "scores": attributes["scores"],
                    "steps": (last - verdict.step) * len(job.seeds),
                }
            attributes = {**attributes, **verdict.attributes, "steps": attributes["steps"]}
            values = [verdict.value]
            system |= verdict.rungs
        if self._claim.stage == "final":
            model = self._patiently(lambda: self._store_model(trainer))
            attributes["model"] = asdict(model)
            if isinstance(job.env, Environment):
                attributes["reward_threshold"] = reward_threshold(job.env)
            system |= artifact_link(model.artifact, "model.safetensors")
        return Outcome(
            state="COMPLETE" if verdict is None else "PRUNED",
            values=values,
            attributes=attributes,
            system_attributes=system,
            reports=reports,
        )

    def _train(
        self, job: Job, trainer: Trainer, reports: Reports, checkpoints: Checkpoints
    ) -> tuple[StoredVerdict | None, int, NDArray[np.float64]]:
        """Train; the verdict if it was pruned, the last step, and each agent's score there [S]."""
        audit = self._audit
        for event in self._events(trainer):
            self._watch.check()
            self._watch.progress(event.step, agents=len(job.seeds))
            if isinstance(event, Score):
                return audit.verdict, event.step, event.returns
            if isinstance(event, Progress):
                continue
            self._measuring.add(event)
            if audit.reports(event.step):
                reports.add(event)
            written = reports.try_to_flush()
            judged = written and audit.verdict is None and event.step < job.train_steps
            if judged and reports.pruned(self._storage):
                verdict = self._judged(trainer, event, job.seeds)
                if not audit.chosen:
                    return verdict, event.step, event.metrics["return"]
                self._patiently(partial(audit.begin, verdict))
            checkpoints.take(trainer, event.step)
            if written:
                checkpoints.save_if_due()
        raise AssertionError("a training ends with its score")

    def _judged(
        self, trainer: Trainer, evaluation: Evaluation, seeds: Sequence[int]
    ) -> StoredVerdict:
        """The verdict that the judge has just given."""
        assert self._judge is not None, "nobody else prunes"
        returns = evaluation.metrics["return"]
        with self._training():
            taken = self._measuring.take(trainer, returns, evaluation.step, pruned=True)
        return self._judge.stored(evaluation.step, taken, returns, seeds)

    def _events(self, trainer: Trainer) -> Iterator[Event]:
        """What the trainer yields, each event within the time that it may take."""
        with closing(trainer.run()) as events:
            while True:
                with self._training():
                    # While it is only waited for, the time that it may take runs on.
                    while isinstance(event := next(events, None), Waiting):
                        self._watch.check()
                        self._refuse_late()
                if event is None:
                    return
                self._refuse_late()
                yield event

    def _refuse_late(self) -> None:
        if time.monotonic() > self._ends:
            limit = self._study.spec.task.max_seconds
            raise TimeLimitError(f"not done after {limit:g} s, which is task.max_seconds")

    @contextmanager
    def _training(self) -> Iterator[None]:
        remaining = self._ends + _GRACE - time.monotonic()
        with self._watch.training(min(self._stall, remaining)):
            try:
                yield
            except Exception as exc:
                self._trainers = exc
                raise

    def _open(self) -> Opened:
        return open_trial(
            self._database,
            self._study,
            self._claim,
            storage=self._storage,
            **self._provenance.how,
        )

    def _reports(self, opened: Opened, start: int) -> Reports:
        """Those of an attempt that begins at step `start`."""
        passed = len(opened.rungs) if start else 0
        self._judge = None
        if self._claim.stage == "search":
            judge = make_judge(self._study.spec, self._claim.number)
            self._judge = Remembering(judge, opened.rungs if start else {})
        return Reports(
            self._database,
            self._claim,
            judge=self._judge,
            history=self._history,
            curve={step: value for step, value in opened.curve.items() if step <= start},
            passed=passed,
            over_seeds=self._study.spec.search.over_seeds,
        )

    def _store_model(self, trainer: Trainer) -> Stored:
        """Put what was trained, all agents stacked, into the artifact store."""
        arrays = {name: np.ascontiguousarray(array) for name, array in trainer.result().items()}
        # The fence keeps a worker that has lost the trial from touching its successor's model.
        return owned.put(
            self._database,
            self._store,
            self._study,
            kind="model",
            label=f"{self._study.final_name}-{self._claim.number}-model-{self._claim.fence}",
            data=save(arrays),
            claim=self._claim,
        )

    def _patiently(self, operation: Callable[[], T]) -> T:
        return patiently(operation, patience=self._settings.outage_patience, pause=self._watch.wait)


def _close(trainer: Trainer) -> None:
    try:
        trainer.close()
    except (Exception, SystemExit) as exc:
        # This runs the environment's code, and changes no result.
        log.warning("environment not closed", reason=" ".join(str(exc).split()))
