from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import optuna
import pytest
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
)
from optuna.trial import TrialState

from benchmarks.stock import make_pruner
from trialfleet.search.pruners import PRUNERS
from trialfleet.search.samplers import SAMPLERS, make_sampler
from trialfleet.search.space import decode, suggest
from trialfleet.study.file import parse
from trialfleet.study.spec import Spec

AGENT = """
[agent]
gamma = { low = 0.9, high = 0.999 }
tau = { low = 0.1, high = 1.0 }
batch_size = { low = 16, high = 256, log = true }
net_arch = { choices = [[32], [64], [64, 64]] }
"""
FINITE = """
[agent]
gamma = { low = 0.9, high = 0.98, step = 0.02 }
tau = { low = 0.1, high = 1.0, step = 0.1 }
batch_size = { choices = [16, 32, 64] }
net_arch = { choices = [[32], [64], [64, 64]] }
"""

SAMPLER_TABLES = [
    '"tpe"',
    '{ name = "tpe", multivariate = false, constant_liar = false, n_ei_candidates = 8 }',
    '{ name = "tpe", group = true, n_startup_trials = 0 }',
    '"random"',
    '"qmc"',
    '{ name = "qmc", scramble = false }',
    '{ name = "qmc", qmc_type = "halton" }',
    '{ name = "gp", n_startup_trials = 4 }',
    '{ name = "gp", n_startup_trials = 4, deterministic_objective = true }',
    '{ name = "cmaes", allow_pickle = true }',
    '{ name = "cmaes", allow_pickle = true, with_margin = true, popsize = 4 }',
    '{ name = "cmaes", allow_pickle = true, use_separable_cma = true, popsize = 4 }',
    '{ name = "cmaes", allow_pickle = true, lr_adapt = true, consider_pruned_trials = true }',
    '{ name = "nsga2", population_size = 4, mutation_prob = 0.9 }',
    '{ name = "nsga2", population_size = 4, mutation_prob = 0.9, crossover = "undx" }',
    '{ name = "nsga3", population_size = 4, mutation_prob = 0.9, dividing_parameter = 2 }',
    '"grid"',
    '{ name = "brute_force" }',
    '{ name = "partial_fixed", fixed = { gamma = 0.94 } }',
    '{ name = "partial_fixed", fixed = { gamma = 0.94, net_arch = [64] }, wrapped = "qmc" }',
    '{ name = "optuna.samplers:TPESampler", args = { n_startup_trials = 4 } }',
]


def spec_of(search: str, seed: int = 5, agent: str | None = None) -> Spec:
    if agent is None:
        agent = FINITE if '"brute_force"' in search else AGENT
    text = f'name = "x"\nseed = {seed}\n[search]\n{search}\n[final]\ntop = 1\n{agent}'
    return parse(text, source="x.toml")


def score(values: dict[str, Any]) -> float:
    return float(-((values["gamma"] - 0.97) ** 2) - (values["tau"] - 0.5) ** 2)


def run(spec: Spec, trials: int) -> list[dict[str, Any]]:
    """A search with a fresh sampler for each trial, as workers do it."""
    study = optuna.create_study(direction="maximize")
    found = []
    for number in range(trials):
        study.sampler = make_sampler(spec, number)
        trial = study.ask()
        found.append(suggest(trial, spec.agent))
        study.tell(trial, score(found[-1]))
    return found


@pytest.fixture(autouse=True)
def _quiet_and_strict() -> Iterator[None]:
    """Optuna's own log is its business; a warning that reaches the user is ours."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    optuna.logging.set_verbosity(verbosity)


@pytest.mark.parametrize("table", SAMPLER_TABLES)
def test_fresh_samplers_search_as_one(table: str) -> None:
    spec = spec_of(f"sampler = {table}")
    trials = 5 if '"gp"' in table else 16  # a Gaussian process takes its time
    found = run(spec, trials)
    points = {tuple(values[name] for name in spec.agent.searched()) for values in found}
    assert len(points) == trials, "two trials got the same point"
    assert run(spec, trials) == found, "the study file and the trials before it decide"
    other = spec_of(f"sampler = {table}", seed=6)
    if "scramble = false" not in table:
        assert run(other, 2) != found[:2]


def test_each_sampler_is_tried() -> None:
    for name in SAMPLERS:
        assert any(f'"{name}"' in table for table in SAMPLER_TABLES)


@pytest.mark.parametrize(
    "table",
    [
        '"tpe"',
        '{ name = "gp", n_startup_trials = 6 }',
        '{ name = "cmaes", allow_pickle = true }',
    ],
)
def test_models_learn_across_fresh_samplers(table: str) -> None:
    # A sampler that forgot the trials before it would go on as the random one does.
    found = run(spec_of(f"sampler = {table}"), 12 if '"gp"' in table else 40)
    late = sum(score(values) for values in found[-4:]) / 4
    random = run(spec_of('sampler = "random"'), 40)
    assert late > 0.5 * sum(map(score, random)) / 40


@pytest.mark.parametrize("name", ["nsga2", "nsga3"])
def test_generations_get_better_across_fresh_samplers(name: str) -> None:
    found = run(spec_of(f'sampler = {{ name = "{name}", population_size = 8 }}'), 100)
    late = sum(score(values) for values in found[-20:]) / 20
    random = run(spec_of('sampler = "random"'), 100)
    assert late > 0.5 * sum(map(score, random)) / 100


@pytest.mark.parametrize("qmc_type", ["sobol", "halton"])
@pytest.mark.parametrize("scramble", ["true", "false"])
def test_qmc_gives_each_number_its_own_point_of_one_sequence(qmc_type: str, scramble: str) -> None:
    spec = spec_of(f'sampler = {{ name = "qmc", qmc_type = "{qmc_type}", scramble = {scramble} }}')
    alone = run(spec, 16)

    # Many workers, each between asking and telling, and trials that failed: the same points.
    study = optuna.create_study(direction="maximize")
    trials = []
    for number in range(16):
        study.sampler = make_sampler(spec, number)
        trials.append(study.ask())
    together = [suggest(trial, spec.agent) for trial in reversed(trials)][::-1]
    assert together == alone
    # Even: of 16 points each eighth of a range has one or more (of random ones a third has none).
    eighths = {int((values["gamma"] - 0.9) / 0.099 * 8) for values in alone}
    assert len(eighths) == 8
    assert {values["net_arch"] for values in alone} == {(32,), (64,), (64, 64)}


def test_workers_that_ask_at_once_get_different_points() -> None:
    for table in SAMPLER_TABLES:
        spec = spec_of(f"sampler = {table}")
        study = optuna.create_study(direction="maximize")
        values = []
        for number in range(4):  # none is told a score before all have asked
            study.sampler = make_sampler(spec, number)
            values.append(tuple(suggest(study.ask(), spec.agent).values()))
        assert len(set(values)) == 4, table


def test_cmaes_starts_over_from_what_the_storage_holds() -> None:
    spec = spec_of('sampler = { name = "cmaes", allow_pickle = true, popsize = 4 }')
    study = optuna.create_study(direction="maximize")
    for number in range(12):
        study.sampler = make_sampler(spec, number)
        trial = study.ask()
        study.tell(trial, score(suggest(trial, spec.agent)))
    generations = [trial.system_attrs.get("cma:generation") for trial in study.trials]
    assert max(each for each in generations if each is not None) >= 2


def test_a_space_of_one_point() -> None:
    for table in ('"tpe"', '"random"', '"qmc"', '{ name = "gp", n_startup_trials = 1 }'):
        for agent in ("", "[agent]\ngamma = { choices = [0.9] }\n"):
            spec = spec_of(f"sampler = {table}", agent=agent)
            study = optuna.create_study(direction="maximize")
            for number in range(3):
                study.sampler = make_sampler(spec, number)
                trial = study.ask()
                assert suggest(trial, spec.agent) == decode(trial.params, spec.agent)
                study.tell(trial, 1.0)


def test_experimental_warnings_stay_inside() -> None:
    with pytest.warns(ExperimentalWarning):
        optuna.samplers.QMCSampler()
    make_sampler(spec_of('sampler = "qmc"'), 0)  # under the fixture, a warning would raise


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys, trialfleet.search.samplers, trialfleet.search.pruners;"
        "print([m for m in ('torch', 'gymnasium', 'scipy', 'cmaes') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- Pruners: resources are environment steps, numbers of the study file


@pytest.mark.parametrize(
    ("table", "kind", "expected"),
    [
        ('"none"', NopPruner, {}),
        (
            '"median"',
            MedianPruner,
            {
                "percentile": 50.0,
                "n_startup_trials": 5,
                "n_warmup_steps": 0,
                "interval_steps": 5_000,
            },
        ),
        (
            '{ name = "median", n_startup_trials = 1, n_warmup_steps = 9, n_min_trials = 3 }',
            MedianPruner,
            {"n_startup_trials": 1, "n_warmup_steps": 9, "n_min_trials": 3},
        ),
        (
            '{ name = "percentile", percentile = 40, n_startup_trials = 2, n_warmup_steps = 8,'
            " n_min_trials = 4 }",
            PercentilePruner,
            {
                "percentile": 40.0,
                "n_startup_trials": 2,
                "n_warmup_steps": 8,
                "n_min_trials": 4,
                "interval_steps": 5_000,
            },
        ),
        (
            '"hyperband"',
            HyperbandPruner,
            {"min_resource": 5_000, "max_resource": 30_000, "reduction_factor": 3},
        ),
        (
            '{ name = "hyperband", min_resource = 10_000, reduction_factor = 2 }',
            HyperbandPruner,
            {"min_resource": 10_000, "max_resource": 30_000, "reduction_factor": 2},
        ),
        (
            '"successive_halving"',
            SuccessiveHalvingPruner,
            {"min_resource": 5_000, "reduction_factor": 3, "min_early_stopping_rate": 0},
        ),
        (
            '{ name = "successive_halving", min_resource = 6, reduction_factor = 4,'
            " min_early_stopping_rate = 1 }",
            SuccessiveHalvingPruner,
            {"min_resource": 6, "reduction_factor": 4, "min_early_stopping_rate": 1},
        ),
        (
            '{ name = "threshold", lower = 20, n_warmup_steps = 6 }',
            ThresholdPruner,
            {
                "lower": 20.0,
                "upper": float("inf"),
                "n_warmup_steps": 6,
                "interval_steps": 5_000,
            },
        ),
        (
            '{ name = "patient", patience = 3, min_delta = 1 }',
            PatientPruner,
            {"patience": 3, "min_delta": 1.0, "wrapped_pruner": None},
        ),
        (
            '{ name = "optuna.pruners:ThresholdPruner", args = { upper = 3 } }',
            ThresholdPruner,
            {"upper": 3.0},
        ),
    ],
)
def test_pruner(table: str, kind: type[BasePruner], expected: dict[str, Any]) -> None:
    pruner = make_pruner(spec_of(f"pruner = {table}"))
    assert type(pruner) is kind
    assert {name: getattr(pruner, f"_{name}") for name in expected} == expected


def test_each_pruner_is_tried_on_a_search() -> None:
    options = {"threshold": ", lower = 99.5", "patient": ", patience = 1"}
    for name in PRUNERS:
        spec = spec_of(f'pruner = {{ name = "{name}"{options.get(name, "")} }}')
        study = optuna.create_study(
            study_name="x", direction="maximize", sampler=make_sampler(spec, 0)
        )
        for number in range(24):
            study.pruner = make_pruner(spec)  # fresh, as the next worker's
            trial = study.ask()
            state = TrialState.COMPLETE
            for segment in range(1, spec.task.segments + 1):
                # The best come first: what follows deserves no more than its first segments.
                worse = number + segment * (number > 0)
                trial.report(100.0 - worse, segment * spec.task.eval_every)
                if trial.should_prune():
                    state = TrialState.PRUNED
                    break
            study.tell(trial, None if state is TrialState.PRUNED else 1.0, state)
        pruned = [trial for trial in study.trials if trial.state is TrialState.PRUNED]
        assert bool(pruned) == (name != "none"), name
        assert study.trials[0].state is TrialState.COMPLETE
