"""Your own training: what a function that a study names as `task.objective` is given and returns.

    def train(run: Run) -> float:
        model = make_model(run.parameters, seed=run.seeds[0])
        for step in run.steps:
            train_until(step, model)
            run.report(step, accuracy(model))
        return accuracy(model)

`docs/own-training.md` has the whole of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

Values: TypeAlias = float | Sequence[float]
Checkpoint: TypeAlias = bytes | Callable[[], bytes]

_METRIC = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,16}){1,2}")


class Ended(BaseException):  # `except Exception` is not to catch it
    """The trial ends here: it is pruned, its worker is asked to stop, or another one has it.

    Raised by `Run.report`, and anywhere else in the training that cannot wait for the next report.
    Let it pass; `finally` and `with` clean up.
    """


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a training came to, with the models that it trained."""

    scores: Values  # of each seed, higher is better; one number where there is one seed
    models: Sequence[bytes] = ()  # of each seed: a file's content; none where nothing is to be kept
    suffix: str = ".bin"  # what the model's file is called, after the study's name


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `Run.report` passes on, checked."""

    step: int
    values: list[float]  # of each seed
    metrics: dict[str, list[float]]  # by name, of each seed
    checkpoint: Checkpoint | None


class Reporter:
    """Who hears a `Run`; this one prints, for a function that is tried without a study."""

    def report(self, report: Report) -> None:
        """Take a report; the training goes on when this returns.

        Raises:
            Ended: It does not go on.
        """
        print(f"step {report.step}: {', '.join(f'{value:.4g}' for value in report.values)}")

    def progress(self, step: int) -> None:
        """Hear where the training stands."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One trial's training, as the worker asks for it.

    A step is whatever the study counts with `task.train_steps`: epochs, batches, environment steps.
    The same parameters and seeds are to give the same values, wherever and in how many attempts
    they are trained; then a trial that has lost its worker ends as it would have without that.
    """

    # the study's [parameters], those that are searched with this trial's values
    parameters: Mapping[str, Any]
    # one for each training that the trial is the mean of; 0 <= seed < 2**32
    seeds: Sequence[int] = (0,)
    # task.train_steps and task.eval_every
    train_steps: int
    eval_every: int
    # "cpu" or "cuda"
    device: str = "cpu"
    # whether this is the final stage, whose models are kept
    final: bool = False
    # the step at which an earlier attempt was left, and what it gave to `report` there
    start: int = 0
    checkpoint: bytes | None = None
    reporter: Reporter = field(default_factory=Reporter, repr=False)

    @property
    def steps(self) -> range:
        """The steps at which a report is due, from where the training goes on."""
        return range(self.start + self.eval_every, self.train_steps + 1, self.eval_every)

    def report(
        self,
        step: int,
        values: Values,
        *,
        checkpoint: Checkpoint | None = None,
        metrics: Mapping[str, Values] | None = None,
    ) -> None:
        """Tell how the training stands at one of `steps`, each of them once and in order.

        Args:
            step: Of each seed's training.
            values: How good each seed's model is, higher is better; a number where there is one
                seed. Pruners decide by their mean.
            checkpoint: All that `Run.checkpoint` is to give another attempt, which begins at this
                step: bytes, or a function that makes them when they are needed.
            metrics: More to be seen of each seed, by name: small letters, digits, underscores.

        Raises:
            Ended: The trial ends here.
            ValueError: An argument is not as described, or the report is not the one that is due.
        """
        self.reporter.report(
            Report(
                step=step,
                values=numbers(values, len(self.seeds), "values"),
                metrics={
                    _metric(name): numbers(each, len(self.seeds), name)
                    for name, each in (metrics or {}).items()
                },
                checkpoint=checkpoint,
            )
        )

    def progress(self, step: int) -> None:
        """Tell where the training stands between two reports, as often as you like.

        It is shown to people who watch, and shows the worker that the training is not stuck.
        """
        self.reporter.progress(step)

    def segment_seed(self, seed: int, step: int) -> int:
        """A seed of its own, 0 <= it < 2**32, for what one of `seeds` draws on its way to `step`.

        Who seeds the generators with it after each report needs no generator in the checkpoint:
        a training that was interrupted draws what one in one go does.
        """
        sequence = np.random.SeedSequence(seed, spawn_key=(step,))
        if seed >> 32:  # of a trial from when they had 63 bits: its replay draws the same
            return int(sequence.generate_state(1, np.uint64)[0]) >> 1
        return int(sequence.generate_state(1, np.uint32)[0])


def result_of(returned: object, seeds: int) -> Result:
    """What a function returned, with a score for each of so many seeds.

    Raises:
        TypeError, ValueError: It is no result.
    """
    result = returned if isinstance(returned, Result) else Result(scores=returned)  # type: ignore[arg-type]
    models = list(result.models)
    if models and len(models) != seeds:
        raise ValueError(f"the result has {len(models)} models; must be one for each seed, {seeds}")
    if not all(isinstance(model, bytes) for model in models):
        raise TypeError("the result's models must be bytes")
    if not _SUFFIX.fullmatch(result.suffix):
        raise ValueError(f"the result's suffix is {result.suffix!r}; must be like .zip or .pt")
    return Result(
        scores=numbers(result.scores, seeds, "the score"), models=models, suffix=result.suffix
    )


def numbers(values: object, seeds: int, what: str) -> list[float]:
    """A number for each of so many seeds; one that is not finite is left to whoever uses it.

    Raises:
        TypeError, ValueError: They are not that.
    """
    wanted = "a number" if seeds == 1 else f"a list of {seeds}, one for each of run.seeds"
    # NumPy takes None for NaN, which is a diverged training's score.
    if values is None or (isinstance(values, Sequence) and any(each is None for each in values)):
        there = "None" if values is None else "None among them"
        raise TypeError(f"{what}: {there}; must be {wanted}; does the function return it?")
    try:
        found = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{what}: {type(values).__name__}; must be {wanted}") from None
    if found.ndim == 0 and seeds == 1:
        found = found[None]
    if found.shape != (seeds,):
        shape = "one number" if found.ndim == 0 else f"numbers of shape {found.shape}"
        raise ValueError(f"{what}: {shape}; must be {wanted}")
    return [float(value) for value in found]


def _metric(name: str) -> str:
    if not _METRIC.fullmatch(name) or name == "return":
        raise ValueError(f"metric {name!r}; must be small letters, digits, _, and not 'return'")
    return name


def all_finite(values: Sequence[float]) -> bool:
    """Whether they are numbers that can be compared."""
    return all(map(math.isfinite, values))
