"""The two ways through one trial that trains nothing, part by part."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar
from uuid import uuid4

import numpy as np
import optuna

from benchmarks.soak_fleet import ROOT
from benchmarks.stock import make_pruner
from trialfleet.search import space
from trialfleet.search.judges import Asked
from trialfleet.search.pruners import make_judge
from trialfleet.search.samplers import make_sampler
from trialfleet.store import leases
from trialfleet.store.leases import Claim
from trialfleet.store.metrics import Metric
from trialfleet.store.optuna.history import Curves, Others
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import reports
from trialfleet.store.trials.life import Ending
from trialfleet.study.file import parse
from trialfleet.study.spec import Spec

T = TypeVar("T")
PARTS = ("claim", "open, suggest", "reports", "pruner", "finish")
# What a worker reports beside the mean return: of each agent, at each evaluation.
_METRICS = ("return", "length", "episode_return", "loss", "q_mean", "epsilon", "steps_per_second")
_LEASE = 600.0  # seconds; nobody beats here, and hundreds may start at once


def _asked(database: Database, study: str, claim: Claim) -> Asked:
    storage = database.optuna_storage(claim.fence)
    return database.optuna_study(study, storage=storage), storage.get_trial(claim.trial_id)


def cartpole(name: str, sampler: str = "random") -> Spec:
    """The search of cartpole.toml under another name, with another sampler and no end."""
    file = (ROOT / "studies" / "cartpole.toml").read_text(encoding="utf-8")
    for line, instead in (
        ('name = "cartpole"', f'name = "{name}"'),
        ("trials = 100", "trials = 1_000_000"),
        ('sampler = "tpe"', f'sampler = "{sampler}"'),
    ):
        assert line in file
        file = file.replace(line, instead)
    return parse(file, source="cartpole.toml")


class Clock:
    """Seconds in each part of one trial."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)

    def time(self, part: str, call: Callable[[], T]) -> T:
        """`call()`, timed."""
        started = time.perf_counter()
        try:
            return call()
        finally:
            self.seconds[part] += time.perf_counter() - started


class Way(Protocol):
    """One of the two, in one process."""

    def trial(self, values: list[float]) -> tuple[Clock, str]:
        """Run a trial that reports `values`; what it cost, and COMPLETE or PRUNED."""


class Ours:
    """As `worker.attempt` does it."""

    def __init__(
        self, database: Database, study: Study, clock: Callable[[], Clock] = Clock
    ) -> None:
        self._database, self._study, self._clock = database, study, clock
        self._curves = Curves(database, study.search_id)

    def trial(self, values: list[float]) -> tuple[Clock, str]:
        """Claim, open, report and be judged, finish."""
        clock, database, study = self._clock(), self._database, self._study
        spec = study.spec
        claim = clock.time(
            "claim",
            lambda: leases.claim(
                database, study.name, worker="bench", claim_id=uuid4(), lease_seconds=_LEASE
            ),
        )
        assert claim is not None, "the budget is spent"

        def suggest() -> None:
            storage = database.optuna_storage(claim.fence)
            with storage.opening(claim.trial_id):
                sampler = make_sampler(spec, claim.number)
                optuna_study = database.optuna_study(study.name, storage=storage, sampler=sampler)
                space.suggest(optuna.Trial(optuna_study, claim.trial_id), spec.agent)

        clock.time("open, suggest", suggest)
        judge = make_judge(spec, claim.number)
        others = Others(self._curves, partial(_asked, database, study.name, claim))
        curve: dict[int, float] = {}
        state: Ending = "COMPLETE"
        passed, sent = 0, 0
        system: dict[str, float] = {}
        for segment, value in enumerate(values, start=1):
            step = segment * spec.task.eval_every
            curve[step] = value
            agents = [value] * spec.task.seeds
            metrics = [Metric(step=step, name=name, values=agents) for name in _METRICS]
            send = partial(reports.send, database, claim, sent=sent, returns=[(step, value)])
            receipt = clock.time("reports", partial(send, metrics=metrics))
            sent = step
            if step == spec.task.train_steps:
                break

            clock.time("pruner", partial(self._curves.update, receipt.finished))
            verdict = clock.time("pruner", partial(judge.judge, curve, passed, others))
            passed += len(verdict.attributes)
            system.update(verdict.attributes)
            if verdict.prune:
                state = "PRUNED"
                break
        clock.time(
            "finish",
            lambda: leases.finish(
                database,
                claim,
                state=state,
                values=[values[len(curve) - 1]],
                attributes={"scores": [1.0] * spec.task.seeds, "worker": "bench"},
                system_attributes=system,
                sent=sent,
            ),
        )
        return clock, state


class Stock:
    """Plain Optuna: ask, suggest, report and should_prune, tell."""

    def __init__(self, storage: optuna.storages.BaseStorage, spec: Spec, seed: int = 0) -> None:
        self._spec = spec
        self._optuna = optuna.load_study(
            study_name=spec.name,
            storage=storage,
            sampler=make_sampler(spec, seed),
            pruner=make_pruner(spec),
        )

    def trial(self, values: list[float]) -> tuple[Clock, str]:
        """The same trial."""
        clock, spec = Clock(), self._spec
        trial = clock.time("claim", self._optuna.ask)
        clock.time("open, suggest", lambda: space.suggest(trial, spec.agent))
        state = optuna.trial.TrialState.COMPLETE
        last = values[-1]
        for segment, value in enumerate(values, start=1):
            step = segment * spec.task.eval_every
            clock.time("reports", partial(trial.report, value, step))
            if step < spec.task.train_steps and clock.time("pruner", trial.should_prune):
                state, last = optuna.trial.TrialState.PRUNED, value
                break
        score = last if state is optuna.trial.TrialState.COMPLETE else None
        clock.time("finish", lambda: self._optuna.tell(trial, score, state=state))
        return clock, state.name


def returns(rng: np.random.Generator, segments: int) -> list[float]:
    """A made-up learning curve: noise around a line that most trials' medians lie below."""
    line = np.linspace(260.0, 500.0, segments)
    return [float(value) for value in line + rng.normal(0.0, 5.0, segments)]
