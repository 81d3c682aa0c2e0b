"""Judges decide as Optuna's pruners do, trial by trial, on studies recorded as they happened."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from optuna.trial import TrialState

from benchmarks.stock import make_pruner
from trialfleet.search.judges import RUNG, Asked
from trialfleet.search.judges.percentile import percentile_of_sorted
from trialfleet.study.file import parse

STUDY = """
name = "recorded"

[task]
train_steps = 30_000
eval_every = 1_250

[search]
pruner = {pruner}
"""
STEPS = [1_250 * segment for segment in range(1, 25)]


@dataclass
class Recorded:
    """A history read from Optuna's own study."""

    study: optuna.Study
    without: int  # the trial that is judged
    trials: list[optuna.trial.FrozenTrial] = field(init=False)

    def __post_init__(self) -> None:
        self.trials = self.study.get_trials(deepcopy=False)

    @property
    def complete(self) -> int:
        return sum(trial.state == TrialState.COMPLETE for trial in self.trials)

    def at(self, step: int) -> NDArray[np.float64]:
        return np.sort(
            [
                trial.intermediate_values[step]
                for trial in self.trials
                if trial.state == TrialState.COMPLETE and step in trial.intermediate_values
            ]
        )

    def rung(self, number: int) -> Mapping[int, float]:
        key = RUNG.format(number)
        return {
            trial.number: trial.system_attrs[key]
            for trial in self.trials
            if key in trial.system_attrs and trial.number != self.without
        }

    def asked(self) -> Asked:
        return self.study, self.trials[self.without]


@pytest.mark.parametrize(
    "table",
    [
        '"none"',
        '"median"',
        '{ name = "median", n_startup_trials = 0, n_warmup_steps = 10_000 }',
        '{ name = "percentile", n_startup_trials = 2, n_warmup_steps = 5_000, n_min_trials = 4 }',
        '{ name = "percentile", percentile = 90.0, n_warmup_steps = 1_000 }',
        '"successive_halving"',
        '{ name = "successive_halving", min_resource = 2_500, reduction_factor = 2,'
        " min_early_stopping_rate = 1 }",
        # Several rungs at the first report.
        '{ name = "successive_halving", min_resource = 500, reduction_factor = 4 }',
        '"hyperband"',
        '{ name = "hyperband", min_resource = 2_500, reduction_factor = 2 }',
        '{ name = "threshold", lower = -30.0 }',
        '{ name = "threshold", upper = 300.0, n_warmup_steps = 2_000 }',
        '{ name = "threshold", lower = -10.0, upper = 600.0, n_warmup_steps = 1_250 }',
        '{ name = "patient", patience = 2 }',
        '{ name = "patient", patience = 1, min_delta = 5.0, wrapped = "median" }',
        '{ name = "patient", patience = 0, wrapped = { name = "percentile", percentile = 60.0 } }',
        # Asked now and then, it catches up on several rungs at once.
        '{ name = "patient", patience = 1, wrapped = "successive_halving" }',
        '{ name = "patient", patience = 1,'
        ' wrapped = { name = "hyperband", reduction_factor = 2 } }',
        '{ name = "patient", patience = 1, wrapped = { name = "threshold", lower = 100.0 } }',
        '{ name = "optuna.pruners:MedianPruner", args = { n_startup_trials = 3 } }',
        '{ name = "patient", patience = 1, wrapped = "optuna.pruners:MedianPruner" }',
    ],
)
@pytest.mark.parametrize("seed", range(3))
# Optuna's pruners ask NumPy for the best of values that are all NaN.
@pytest.mark.filterwarnings("ignore::RuntimeWarning:optuna", "ignore::RuntimeWarning:numpy")
def test_a_judge_decides_as_optunas_pruner(table: str, seed: int) -> None:
    spec = parse(STUDY.format(pruner=table), source="recorded.toml")
    pruner = make_pruner(spec)
    rng = np.random.default_rng(seed)
    study = optuna.create_study(direction="maximize", study_name="recorded", pruner=pruner)
    pruned = 0
    for _ in range(12):
        # Four trials in turns, so that each is judged while others are under way.
        running = {study.ask(): rng.uniform(0.0, 30.0) for _ in range(4)}
        for step in STEPS:
            for trial, slope in list(running.items()):
                value = float(np.round(slope * step / 1_250 + rng.normal(0, 20), 0))
                if rng.random() < 0.03:
                    value = math.nan if rng.random() < 0.5 else math.inf
                trial.report(value, step)
                history = Recorded(study, trial.number)
                frozen = history.trials[trial.number]
                passed = sum(key.startswith("completed_rung_") for key in frozen.system_attrs)
                judge = spec.search.pruner.build(spec, trial.number)
                verdict = judge.judge(frozen.intermediate_values, passed, history)
                assert verdict.prune == trial.should_prune(), (trial.number, step)
                # What it wants stored is what Optuna has stored.
                after = study.get_trials(deepcopy=False)[trial.number].system_attrs
                new = {key: after[key] for key in after if key not in frozen.system_attrs}
                assert dict(verdict.attributes) == new
                if verdict.prune:
                    pruned += 1
                    assert verdict.why is not None
                    assert verdict.why.step == step
                    found, limit = verdict.why.value, verdict.why.threshold
                    if found is not None and limit is not None:
                        assert found < limit if verdict.why.side == "<" else found > limit
                    study.tell(trial, state=TrialState.PRUNED)
                    del running[trial]
        for trial in running:
            study.tell(trial, rng.uniform(0.0, 500.0))
    assert (pruned == 0) if table == '"none"' else (3 < pruned < 48)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=False, width=32), min_size=1, max_size=40),
    st.floats(0.0, 100.0),
)
def test_the_percentile_is_numpys_to_the_bit(values: list[float], percentile: float) -> None:
    array = np.asarray(values, dtype=float)
    found = percentile_of_sorted(np.sort(array), percentile)
    with np.errstate(all="ignore"):
        if np.isnan(array).all():
            assert math.isnan(found)
        else:
            assert found == np.nanpercentile(array, percentile)
