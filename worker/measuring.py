"""What a trial's training comes to, by the measures that its study asks for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trialfleet.store import metrics
from trialfleet.store.metrics import Curve
from trialfleet.store.storage import Database
from trialfleet.study.measures import Measure
from trialfleet.study.spec import Spec
from trialfleet.study.values import (
    NEVER,
    constraint_values,
    curve_area,
    objective_values,
    steps_to,
    when_pruned,
)
from worker.trainers import envs
from worker.trainers.environment import Environment
from worker.trainers.protocol import Evaluation, Trainer
from worker.trainers.registry import saved_agents

_ROUNDS, _ACTIONS = 7, 50  # of timing an agent: the median of so many rounds counts


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a trial has measured when it ends."""

    values: list[float]  # of each objective
    attributes: dict[str, Any] = field(default_factory=dict)  # of ours, for the ending
    system: dict[str, Any] = field(default_factory=dict)  # of Optuna's: its constraints


class NotMeasuredError(Exception):
    """A trial has no number for what its study asks of it."""


class Measuring:
    """Follows a trial's evaluations.

    Args:
        spec: The study file.
        earlier: What attempts before this one measured, up to where it begins, by metric.
    """

    def __init__(self, spec: Spec, earlier: Mapping[str, Curve] | None = None) -> None:
        self._spec = spec
        self._wanted = wanted(spec)
        self._metrics: dict[int, dict[str, Sequence[float]]] = {}  # by step and name, [S]
        for name, curve in (earlier or {}).items():
            for step, values in curve:
                self._metrics.setdefault(step, {})[name] = values

    def add(self, evaluation: Evaluation) -> None:
        """Take an evaluation."""
        if any(measure.kind.curve for measure in self._wanted):
            self._metrics[evaluation.step] = {
                name: values.tolist() for name, values in evaluation.metrics.items()
            }

    def take(
        self, trainer: Trainer, scores: NDArray[np.float64], step: int, *, pruned: bool = False
    ) -> Taken:
        """What the trial has measured by `step`.

        Args:
            trainer: It stands at that step.
            scores: Of each agent [S].
            step: The last one.
            pruned: Whether it ends here before its time.

        Raises:
            NotMeasuredError: Something was not measured, or is no finite number.
        """
        measures: dict[str, list[float] | float] = {"score": scores.tolist()}
        for measure in self._wanted:
            if measure.key not in ("score", "spread"):
                measures[measure.name] = self._measure(measure, trainer, step, pruned)
        for name, measured in measures.items():
            if not np.isfinite(measured).all():
                raise NotMeasuredError(f"{name} is not finite: {measured}")
        told = {name: each for name, each in measures.items() if name != "score"}
        search = self._spec.search
        attributes: dict[str, Any] = {"measures": told} if told else {}
        system: dict[str, Any] = {}
        if constraints := self._spec.constraints:
            found = constraint_values(constraints, measures, search.over_seeds)
            certain = [
                when_pruned(each, value) if pruned else value
                for each, value in zip(constraints, found, strict=True)
            ]
            pairs = [*zip(constraints, certain, strict=True)]
            attributes["constraints"] = {each.label: value for each, value in pairs}
            # One list, as the dashboard reads it; Optuna's samplers read it like their own keys.
            # What is not certain is no violation.
            system["constraints"] = [
                0.0 if value is None else each.excess(value) for each, value in pairs
            ]
        return Taken(
            values=objective_values(search.objectives, measures, search.over_seeds),
            attributes=attributes,
            system=system,
        )

    def _measure(
        self, measure: Measure, trainer: Trainer, step: int, pruned: bool
    ) -> list[float] | float:
        match measure.key:
            case "auc":
                return [curve_area(curve) for curve in self._curves("return")]
            case "steps_to":
                never = step if pruned else NEVER * self._spec.task.train_steps
                found = [steps_to(measure.threshold, each) for each in self._curves("return")]
                return [float(never if reached is None else reached) for reached in found]
            case "metric":
                return self._metric(measure.metric, step)
            case "training_seconds":
                return self._training_seconds()
            case "parameters":
                saved = saved_agents(self._spec.task.algorithm)
                return float(saved.count_parameters(_first(trainer)))
        assert measure.key == "seconds_per_action", measure
        return _seconds_per_action(self._spec, trainer)

    def _metric(self, name: str, step: int) -> list[float]:
        """The metric of each agent [S] at an evaluation."""
        there = self._metrics[step]
        if name not in there:
            raise NotMeasuredError(
                f"the trainer has no metric {name!r} at step {step}; it has"
                f" {', '.join(sorted(there))}"
            )
        return [*there[name]]

    def _curves(self, name: str) -> list[dict[int, float]]:
        """The metric of each agent, by step [S]."""
        points = {step: self._metric(name, step) for step in sorted(self._metrics)}
        agents = len(next(iter(points.values())))
        return [{at: values[agent] for at, values in points.items()} for agent in range(agents)]

    def _training_seconds(self) -> float:
        """By the pace of each segment, so that those of earlier attempts are in it."""
        curves = self._curves("steps_per_second")
        every = self._spec.task.eval_every
        return sum(len(curves) * every / pace for pace in curves[0].values())


def resumed(database: Database, trial_id: int, spec: Spec, step: int) -> Measuring:
    """Who follows an attempt that begins at `step`, with what the trial measured before."""
    if not step or not any(measure.kind.curve for measure in wanted(spec)):
        return Measuring(spec)
    stored = metrics.read_trial(database, trial_id)
    earlier = {
        name: [(at, values) for at, values in curve if at <= step] for name, curve in stored.items()
    }
    return Measuring(spec, earlier)


def wanted(spec: Spec) -> list[Measure]:
    """The measures that the study asks for."""
    asked = [each.measure for each in spec.search.objectives]
    asked += [each.measure for each in spec.constraints]
    return [*{measure.name: measure for measure in asked}.values()]


def _first(trainer: Trainer) -> dict[str, NDArray[Any]]:
    """The arrays of the first agent, as one that is saved."""
    return {name: np.ascontiguousarray(array[0]) for name, array in trainer.result().items()}


def _seconds_per_action(spec: Spec, trainer: Trainer) -> float:
    """How long the first agent, saved, takes for an action for one observation."""
    env = Environment.of_task(spec.task.model_dump())
    agent = saved_agents(spec.task.algorithm).load_agent(_first(trainer), env)
    observation = np.zeros((1, envs.inspect_env(env).observation_size), np.float32)
    rounds = []
    for _ in range(1 + _ROUNDS):
        began = time.perf_counter()
        for _ in range(_ACTIONS):
            agent.act(observation)
        rounds.append((time.perf_counter() - began) / _ACTIONS)
    return float(np.median(rounds[1:]))  # the first round warms up
