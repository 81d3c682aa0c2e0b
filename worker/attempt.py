"""One attempt at a trial: configuration -> segments -> reports, pruning, checkpoint, score."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np
import optuna
import structlog
from safetensors.numpy import save
from sqlalchemy.exc import SQLAlchemyError

from trialfleet import seeds
from trialfleet.artifacts import blobs
from trialfleet.errors import ArtifactStoreError
from trialfleet.postgres.retry import patiently
from trialfleet.search import space
from trialfleet.search.pruners import make_pruner
from trialfleet.search.samplers import make_sampler
from trialfleet.settings import Settings
from trialfleet.store.leases import Claim
from trialfleet.store.storage import Database, Storage
from trialfleet.store.studies import Study
from trialfleet.store.trials.optuna_rows import link_artifact
from worker.reports import Reports
from worker.resume import Snapshots
from worker.stop import StopRequested
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.train import Evaluation, Training

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore

T = TypeVar("T")
log = structlog.get_logger()


class Watch(Protocol):
    """What an attempt asks and tells between two steps of its work."""

    def check(self) -> None:
        """Raise to end the attempt: a stop was asked for, or the lease is lost."""

    def wait(self, seconds: float) -> None:
        """Pause, under the same conditions."""

    def resume(self, step: int) -> None:
        """Hear where the attempt begins."""

    def progress(self, step: int, *, agents: int) -> None:
        """Hear where it stands."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an attempt came to; `worker.loop` writes it."""

    state: Literal["COMPLETE", "PRUNED"]
    value: float
    attributes: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Everything that a trial's result depends on, besides the study's task."""

    knobs: Mapping[str, Any]
    seeds: list[int]  # one of each agent
    score_episodes: int

    def training(self, study: Study, device: str) -> Training:
        """A training that has not begun."""
        task = study.spec.task
        return Training(
            task.env,
            Params(**self.knobs),
            self.seeds,
            train_steps=task.train_steps,
            eval_every=task.eval_every,
            eval_episodes=task.eval_episodes,
            score_episodes=self.score_episodes,
            keep="best" if task.keep == "best" else "last",
            device=device,
        )


class Attempt:
    """One run of a trial by this worker.

    Args:
        database: Of this process.
        store: The study's artifact store.
        study: Of the claim.
        claim: Ours.
        watch: Looked at every fraction of a second.
        device: Where to train.
        settings: Patience, and time between checkpoints.
    """

    def __init__(
        self,
        database: Database,
        store: ArtifactStore,
        study: Study,
        claim: Claim,
        *,
        watch: Watch,
        device: str,
        settings: Settings,
    ) -> None:
        self._database, self._store = database, store
        self._study, self._claim, self._watch = study, claim, watch
        self._device, self._settings = device, settings

    def run(self) -> Outcome:
        """Train the trial to its end, or to where its pruner ends it.

        Raises:
            NonFiniteError: A loss, parameter or return of it is not finite.
            LeaseLostError, StopRequested: What the watch says; a stop leaves a checkpoint.
        """
        started = time.monotonic()
        trial, configuration = self._patiently(self._open)
        training = configuration.training(self._study, self._device)
        snapshots = Snapshots(
            self._database,
            self._store,
            self._study,
            self._claim,
            every=self._settings.checkpoint_every,
        )
        step = self._patiently(lambda: snapshots.restore(training))
        if step == 0 and self._claim.attempt > 1:
            # It has started over, perhaps only now: Optuna's trial still believes in what the
            # attempts before have reported, and would ignore the same steps.
            trial, _ = self._patiently(self._open)
        self._watch.resume(step)
        reports = Reports(self._database, trial, fence=self._claim.fence)
        try:
            state, evaluation = self._train(training, reports, snapshots)
        except StopRequested:
            # Best effort, and quick: the trial is given back with or without it.
            with suppress(SQLAlchemyError, ArtifactStoreError):
                if reports.try_to_flush():
                    snapshots.save()
            raise
        self._patiently(reports.flush)
        scores = evaluation.returns.mean(axis=1)  # [S]
        attributes: dict[str, Any] = {
            "scores": scores.tolist(),
            "seeds": configuration.seeds,
            "steps": evaluation.step * len(configuration.seeds),
            "seconds": round(time.monotonic() - started, 3),
            "attempt": self._claim.attempt,
        }
        if self._claim.stage == "final":
            attributes["model"] = self._patiently(lambda: self._store_model(training, trial))
        return Outcome(state=state, value=float(scores.mean()), attributes=attributes)

    def _train(
        self, training: Training, reports: Reports, snapshots: Snapshots
    ) -> tuple[Literal["COMPLETE", "PRUNED"], Evaluation]:
        for event in training.run():
            self._watch.check()
            self._watch.progress(event.step, agents=training.agents)
            if not isinstance(event, Evaluation):
                continue
            reports.add(event)
            written = reports.try_to_flush()
            if event.segment == training.segments:
                return "COMPLETE", event
            if written and reports.pruned():
                return "PRUNED", event
            snapshots.take(training, event.step)
            if written:
                snapshots.save_if_due()
        raise AssertionError("a training ends with its last evaluation")

    def _open(self) -> tuple[optuna.Trial, Configuration]:
        """Optuna's live trial and what to train.

        Opened anew for each try: a value that was stored although its reply was lost is then read
        back, instead of another one being suggested.
        """
        storage = self._database.optuna_storage(self._claim.fence)
        with storage.opening():
            study = open_study(self._database, self._study, self._claim, storage)
            trial = self._database.optuna_trial(study, self._claim.trial_id)
            return trial, configure(self._study, self._claim, trial)

    def _store_model(self, training: Training, trial: optuna.Trial) -> dict[str, Any]:
        """Put the trained networks, all agents stacked, into the artifact store."""
        arrays = {name: np.ascontiguousarray(array) for name, array in training.networks().items()}
        # The fence keeps a worker that has lost the trial from touching its successor's model.
        name = f"{self._study.final_name}-{self._claim.number}-model-{self._claim.fence}"
        stored = blobs.put(self._store, name, save(arrays))
        link_artifact(trial, name, "model.safetensors")
        return asdict(stored)

    def _patiently(self, operation: Callable[[], T]) -> T:
        return patiently(operation, patience=self._settings.outage_patience, pause=self._watch.wait)


def open_study(database: Database, study: Study, claim: Claim, storage: Storage) -> optuna.Study:
    """Optuna's study under the claim's fence, with a sampler and pruner for this trial alone."""
    if claim.stage == "final":
        return database.optuna_study(study.final_name, storage=storage)
    # A pruner made anew for each trial has no brackets yet when the sampler asks for the history,
    # so the sampler learns from all trials, not only from those of the trial's Hyperband bracket.
    return database.optuna_study(
        study.name,
        storage=storage,
        sampler=make_sampler(study.spec, claim.number),
        pruner=make_pruner(study.spec),
    )


def configure(study: Study, claim: Claim, trial: optuna.Trial) -> Configuration:
    """The search's trials ask the sampler; those of the final stage bring all they need."""
    spec = study.spec
    if claim.stage == "final":
        return Configuration(
            knobs=space.decode(trial.params, spec.agent),
            seeds=trial.user_attrs["seeds"],
            score_episodes=spec.final.episodes,
        )
    return Configuration(
        knobs=space.suggest(trial, spec.agent),
        seeds=seeds.search_seeds(spec.seed, claim.number, spec.task.seeds),
        score_episodes=spec.task.score_episodes,
    )
