"""Optuna's own plots, of as many trials as can be told apart.

They are drawn of an in-memory study that holds copies, without what they do not show.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from coordinator.report.data import StudyData
from trialfleet.errors import NeverToShowError, NothingToShowError
from trialfleet.search.marks import IMPORTED
from trialfleet.search.parameters import parameters
from trialfleet.study.measures import SCORE

# How many trials a plot shows: more would be a blot, or a file that no browser opens.
LIMITS = {
    "optimization-history": 2_000,
    "slice": 1_000,
    "parallel-coordinate": 500,
    "intermediate-values": 60,
    "contour": 150,
    "rank": 1_000,
    "timeline": 150,
    "pareto-front": 2_000,
}
_CELLS = 400  # trials of a plot with a panel for each pair of parameters, divided by their number
_KEPT = 50  # the best trials are always drawn


def importances(data: StudyData) -> dict[str, float]:
    """The searched parameters' shares of importance by PED-ANOVA, the largest first."""
    study = copy_of(data, data.complete, str)
    with _quiet():
        found = get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(), target=_target(data)
        )
    return dict(found)


def draw(
    name: str,
    visualization: Any,
    data: StudyData,
    params: Sequence[str],
    shown: Callable[[str], str],
) -> tuple[Any, str]:
    """One of Optuna's plots and what to say about it.

    Args:
        name: Ours: `param-importances`.
        visualization: `optuna.visualization`, or its `matplotlib`.
        data: Of the study.
        params: Only these; empty for all.
        shown: Makes a text what the library shows to the letter.

    Raises:
        NothingToShowError: There is not enough of the study yet.
    """
    trials = _wanted(name, data)
    drawn, note = thinned(name, data, trials, panels=len(params) or len(_searched(data)))
    study = copy_of(data, drawn, shown)
    if name == "optimization-history":
        study.given = _dense(study.given)
    function = getattr(visualization, f"plot_{name.replace('-', '_')}")
    options: dict[str, Any] = {}
    if name in _TAKES_PARAMS:
        options["params"] = [*map(shown, params)] or None
    if name in _TAKES_TARGET:
        options["target"] = _target(data)
        options["target_name"] = shown(_target_name(data))
    if name == "param-importances":
        options["evaluator"] = PedAnovaImportanceEvaluator()
        note = "By PED-ANOVA: what tells the best trials from the others. " + note
    if name == "hypervolume-history":
        options["reference_point"] = _reference_point(data)
        point = ", ".join(f"{value:.4g}" for value in options["reference_point"])
        note = f"Reference point: {point}. " + note
    try:
        with _quiet():
            return function(study, **options), note.strip()
    except (ValueError, RuntimeError) as exc:
        error = NeverToShowError if data.study.ended else NothingToShowError
        raise error(f"{name} cannot be drawn: {exc}") from exc


_TAKES_PARAMS = {"param-importances", "contour", "slice", "parallel-coordinate", "rank"}
_TAKES_TARGET = {*_TAKES_PARAMS, "optimization-history", "edf"}


def _wanted(name: str, data: StudyData) -> list[FrozenTrial]:
    if name in ("timeline", "intermediate-values"):
        own = [trial for trial in data.search if IMPORTED not in trial.user_attrs]
        trials = [trial for trial in own if trial.datetime_start is not None]
        if name == "intermediate-values":
            trials = [trial for trial in trials if trial.intermediate_values]
        if not trials:
            raise data.nothing_to_show("no trial has reported anything")
        return trials
    if len(data.complete) < 2:
        raise data.nothing_to_show("fewer than two trials have been completed")
    if name in _TAKES_PARAMS and not _searched(data):
        raise NeverToShowError("the study searches no parameter")
    return sorted(data.complete, key=lambda trial: trial.number)


def thinned(
    name: str, data: StudyData, trials: list[FrozenTrial], *, panels: int
) -> tuple[list[FrozenTrial], str]:
    """As many trials as the plot can show, and what to say about the others."""
    limit = LIMITS.get(name, len(trials))
    if name in ("contour", "rank") and panels > 2:
        limit = min(limit, max(30, _CELLS // panels))
    if len(trials) <= limit:
        return trials, ""
    if name == "timeline":
        return trials[-limit:], f"The last {limit:,} of {len(trials):,} trials."
    kept = {trial.number for trial in data.complete[: min(_KEPT, limit // 2)]}
    what = f"the best {len(kept)}"
    if name == "optimization-history":
        records = _records(data, trials)[: limit // 2]
        kept |= set(records)
        what += ", every new best"
    others = [trial.number for trial in trials if trial.number not in kept]
    places = np.linspace(0, len(others) - 1, limit - len(kept)).round().astype(int)
    kept |= {others[place] for place in places}
    drawn = [trial for trial in trials if trial.number in kept]
    note = f"{len(drawn):,} of {len(trials):,} trials: {what}, and evenly spaced ones of the rest."
    return drawn, note


class Shown(optuna.Study):
    """An in-memory study that holds the trials it is given, with their own numbers."""

    given: Sequence[FrozenTrial] = ()

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Those trials, which no plot changes."""
        return [trial for trial in self.given if states is None or trial.state in states]


def copy_of(data: StudyData, trials: Sequence[FrozenTrial], shown: Callable[[str], str]) -> Shown:
    """A study with these trials, whose texts are made fit to be shown."""
    directions = [
        StudyDirection.MAXIMIZE if more else StudyDirection.MINIMIZE for more in data.maximize
    ]
    empty = optuna.create_study(directions=directions, study_name=shown(data.study.name))
    study = Shown(empty.study_name, empty._storage)
    study.given = [_copy(trial, shown) for trial in trials]
    return study


def _dense(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials, and failed ones in the gaps: optimization history counts by their places."""
    given = {trial.number: trial for trial in trials}
    return [given.get(number) or _gap(number) for number in range(max(given) + 1)]


def _gap(number: int) -> FrozenTrial:
    gap = optuna.trial.create_trial(state=TrialState.FAIL)
    gap.number = number
    return gap


def _copy(trial: FrozenTrial, shown: Callable[[str], str]) -> FrozenTrial:
    params, distributions = {}, {}
    for name, value in trial.params.items():
        distribution = trial.distributions[name]
        if isinstance(distribution, CategoricalDistribution):
            distribution = CategoricalDistribution([_text(c, shown) for c in distribution.choices])
            value = _text(value, shown)
        params[shown(name)], distributions[shown(name)] = value, distribution
    return FrozenTrial(
        number=trial.number,
        state=trial.state,
        value=None,
        values=trial.values if trial.state == TrialState.COMPLETE else None,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
        params=params,
        distributions=distributions,
        user_attrs={},
        system_attrs={
            key: v for key, v in trial.system_attrs.items() if key.startswith("constraints")
        },
        intermediate_values=trial.intermediate_values,
        trial_id=trial.number,
    )


def _text(value: Any, shown: Callable[[str], str]) -> Any:
    return shown(value) if isinstance(value, str) else value


def _searched(data: StudyData) -> list[str]:
    return [each.name for each in parameters(data.study.spec.agent)]


def _records(data: StudyData, trials: list[FrozenTrial]) -> list[int]:
    """Numbers of the trials that were the best so far, the latest first."""
    sign, best, found = (1.0 if data.maximize[0] else -1.0), -np.inf, []
    for trial in trials:
        if trial.values and sign * trial.values[0] > best:
            best = sign * trial.values[0]
            found.append(trial.number)
    return found[::-1]


def _target(data: StudyData) -> Callable[[FrozenTrial], float] | None:
    """With several objectives, plots of one value show the first."""
    return (lambda trial: float(trial.values[0])) if len(data.maximize) > 1 else None


def _target_name(data: StudyData) -> str:
    search = data.study.spec.search
    if search.objectives[0] != SCORE:
        return search.objectives[0].measure.name
    return f"score ({'mean' if search.over_seeds == 'mean' else search.over_seeds} return)"


def _reference_point(data: StudyData) -> list[float]:
    """The worst that any trial came to in each objective."""
    values = np.array([trial.values for trial in data.complete])
    return [
        float(values[:, at].min() if more else values[:, at].max())
        for at, more in enumerate(data.maximize)
    ]


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna warns of each experimental function and of each trial that a plot leaves out."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)
