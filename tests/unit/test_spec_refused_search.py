"""What is refused of the table search, samplers and pruners: where, and in which words."""

from __future__ import annotations

import pytest

from tests.support.studyfiles import (
    WHOLE,
    assert_refused,
    never_refused,
)

FIELDS: list[tuple[str, str, str, list[str]]] = [
    # table, line, field in the message, words in the message
    ("search", "trials = 0", "search.trials", ["0;", f"{WHOLE} 1 to 1000000"]),
    ("search", "trials = 1_000_001", "search.trials", ["1000001;"]),
    ("search", "max_failures = -1", "search.max_failures", ["-1;", f"{WHOLE} 0 to"]),
    ("search", "max_attempts = 0", "search.max_attempts", ["0;", f"{WHOLE} 1 to"]),
    ("search", "audit = 1.1", "search.audit", ["1.1;", "a number from 0 to 1"]),
    ("search", "objectives = 4", "search.objectives", ["4;", "a list of 1 to 8 objectives"]),
    ("search", "over_seeds = 'sum'", "search.over_seeds", ["'sum';", '"median"']),
    ("search", "sampler = 'tpee'", "search.sampler", ["'tpee';", "did you mean tpe?"]),
    (
        "search",
        "sampler = 'bohb'",
        "search.sampler",
        ['"tpe", "random", "qmc", "gp", "cmaes", "nsga2"', 'or your own "module:Class"'],
    ),
    (
        "search",
        "sampler = 'grid'\n[final]\ntop = 2",
        "final.top",
        ["2 is more than there are configurations (1)"],
    ),
    (
        "search",
        "sampler = { name = 'grid', points_per_range = 1 }",
        "search.sampler.points_per_range",
        ["1;", f"{WHOLE} 2"],
    ),
    (
        "search",
        "sampler = { name = 'nsga2', population_size = 1 }",
        "search.sampler.population_size",
        ["1;"],
    ),
    (
        "search",
        "sampler = { name = 'nsga2', population_size = 2, crossover = 'spx' }",
        "search.sampler.population_size",
        ['at least 3 for "spx"'],
    ),
    (
        "search",
        "sampler = { name = 'nsga2', crossover = 'unifrom' }",
        "search.sampler.crossover",
        ["did you mean uniform?"],
    ),
    (
        "search",
        "sampler = { name = 'nsga2', dividing_parameter = 3 }",
        "search.sampler.dividing_parameter",
        ["unknown key"],
    ),
    (
        "search",
        "sampler = { name = 'nsga3', mutation_prob = 1.1 }",
        "search.sampler.mutation_prob",
        ["1.1;"],
    ),
    ("search", "sampler = 'partial_fixed'", "search.sampler.fixed", ["is missing"]),
    (
        "search",
        "sampler = { name = 'partial_fixed', fixed = 3 }",
        "search.sampler.fixed",
        ["3;", "a table of searched knobs"],
    ),
    (
        "search",
        "sampler = { name = 'partial_fixed', fixed = { gama = 0.9 } }",
        "search.sampler.fixed.gama",
        ["unknown key"],
    ),
    (
        "search",
        "sampler = { name = 'partial_fixed', fixed = { gamma = 0.9 } }",
        "search.sampler.fixed.gamma",
        ["is fixed by the study file"],
    ),
    (
        "search",
        "sampler = { name = 'partial_fixed', fixed = {}, wrapped = 'tpee' }",
        "search.sampler.wrapped",
        ["did you mean tpe?"],
    ),
    ("search", "sampler = 'trialfleet.x:S'", "search.sampler.name", ["of Trialfleet's own"]),
    ("search", "sampler = { name = 'x:S', args = [] }", "search.sampler.args", ["a table of"]),
    ("search", "sampler = 4", "search.sampler", ["4;", '"tpe"']),
    ("search", "sampler = ['tpe']", "search.sampler", ["['tpe'];"]),
    ("search", "sampler = {}", "search.sampler.name", ["is missing", '"tpe"']),
    ("search", "sampler = { name = 4 }", "search.sampler.name", ["4;"]),
    (
        "search",
        "sampler = { name = 'tpe', n_statrup_trials = 4 }",
        "search.sampler.n_statrup_trials",
        ["did you mean n_startup_trials?"],
    ),
    (
        "search",
        "sampler = { name = 'tpe', prior_weight = 1.0 }",
        "search.sampler.prior_weight",
        ["unknown key"],
    ),
    ("search", "sampler = { name = 'tpe', seed = 4 }", "search.sampler.seed", ["unknown key"]),
    (
        "search",
        "sampler = { name = 'tpe', n_startup_trials = -1 }",
        "search.sampler.n_startup_trials",
        ["-1;"],
    ),
    (
        "search",
        "sampler = { name = 'tpe', n_ei_candidates = 0 }",
        "search.sampler.n_ei_candidates",
        ["0;"],
    ),
    (
        "search",
        "sampler = { name = 'tpe', multivariate = 1 }",
        "search.sampler.multivariate",
        ["1;"],
    ),
    (
        "search",
        "sampler = { name = 'tpe', constant_liar = 'no' }",
        "search.sampler.constant_liar",
        ["'no';"],
    ),
    (
        "search",
        "sampler = { name = 'tpe', group = true, multivariate = false }",
        "search.sampler.group",
        ["multivariate = false"],
    ),
    (
        "search",
        "sampler = { name = 'random', scramble = true }",
        "search.sampler.scramble",
        ["unknown key"],
    ),
    (
        "search",
        "sampler = { name = 'qmc', qmc_type = 'sobel' }",
        "search.sampler.qmc_type",
        ["did you mean sobol?"],
    ),
    ("search", "sampler = { name = 'qmc', scramble = 1 }", "search.sampler.scramble", ["1;"]),
    (
        "search",
        "sampler = { name = 'gp', n_startup_trials = 1.5 }",
        "search.sampler.n_startup_trials",
        ["1.5;"],
    ),
    (
        "search",
        "sampler = { name = 'gp', deterministic_objective = 0 }",
        "search.sampler.deterministic_objective",
        ["0;"],
    ),
    (
        "search",
        "sampler = 'cmaes'",
        "search.sampler.allow_pickle",
        [
            "unpickles study attributes, so whoever can write the database"
            " can run code on every worker; must be true"
        ],
    ),
    (
        "search",
        "sampler = { name = 'cmaes', allow_pickle = false }",
        "search.sampler.allow_pickle",
        ["unpickles"],
    ),
    (
        "search",
        "sampler = { name = 'cmaes', allow_pickle = 1 }",
        "search.sampler.allow_pickle",
        ["1;", "true or false"],
    ),
    (
        "search",
        "sampler = { name = 'cmaes', allow_pickle = true, sigma0 = 1.0 }",
        "search.sampler.sigma0",
        ["unknown key"],
    ),
    (
        "search",
        "sampler = { name = 'cmaes', allow_pickle = true, popsize = 1 }",
        "search.sampler.popsize",
        ["1;"],
    ),
    (
        "search",
        "sampler = { name = 'cmaes', allow_pickle = true, lr_adapt = true, with_margin = true }",
        "search.sampler",
        ["only one of"],
    ),
    (
        "search",
        "sampler = { name = 'cmaes', allow_pickle = true }",
        "search.sampler",
        ["ranges", '"tpe"'],
    ),
    ("search", "pruner = 'hyberband'", "search.pruner", ["did you mean hyperband?"]),
    ("search", "pruner = false", "search.pruner", ["false;", '"none"']),
    (
        "search",
        "pruner = { name = 'hyperband', reduction_factor = 1 }",
        "search.pruner.reduction_factor",
        ["1;"],
    ),
    (
        "search",
        "pruner = { name = 'hyperband', min_resource = 'auto' }",
        "search.pruner.min_resource",
        ["'auto';", WHOLE],
    ),
    (
        "search",
        "pruner = { name = 'hyperband', max_resource = 9 }",
        "search.pruner.max_resource",
        ["unknown key"],
    ),
    (
        "search",
        "pruner = { name = 'hyperband', min_resource = 30_001 }",
        "search.pruner.min_resource",
        ["task.train_steps (30000)"],
    ),
    (
        "search",
        "pruner = { name = 'successive_halving', min_early_stopping_rate = -1 }",
        "search.pruner.min_early_stopping_rate",
        ["-1;"],
    ),
    (
        "search",
        "pruner = { name = 'successive_halving', min_resource = 30_001 }",
        "search.pruner.min_resource",
        ["at most 30000"],
    ),
    (
        "search",
        "pruner = { name = 'median', n_warmup_steps = 30_001 }",
        "search.pruner.n_warmup_steps",
        ["at most 30000"],
    ),
    (
        "search",
        "pruner = { name = 'median', n_startup_trials = true }",
        "search.pruner.n_startup_trials",
        ["true;"],
    ),
    (
        "search",
        "pruner = { name = 'median', n_min_trials = 0 }",
        "search.pruner.n_min_trials",
        ["0;"],
    ),
    (
        "search",
        "pruner = { name = 'percentile', percentile = 101 }",
        "search.pruner.percentile",
        ["from 0 to 100"],
    ),
    ("search", "pruner = 'threshold'", "search.pruner.lower", ["is missing", "lower, upper or"]),
    (
        "search",
        "pruner = { name = 'threshold', lower = 3, upper = 2 }",
        "search.pruner.lower",
        ["3 is above upper (2)"],
    ),
    (
        "search",
        "pruner = { name = 'threshold', lower = 3, n_warmup_steps = 30_001 }",
        "search.pruner.n_warmup_steps",
        ["at most 30000"],
    ),
    ("search", "pruner = 'patient'", "search.pruner.patience", ["is missing"]),
    (
        "search",
        "pruner = { name = 'patient', patience = 5 }",
        "search.pruner.patience",
        ["than a trial has (6, ", "at most 4"],
    ),
    (
        "search",
        "pruner = { name = 'patient', patience = 1, wrapped = 'medium' }",
        "search.pruner.wrapped",
        ["did you mean median?"],
    ),
    (
        "search",
        "pruner = { name = 'patient', patience = 1, wrapped = { name = 'median', n = 1 } }",
        "search.pruner.wrapped.n",
        ["unknown key"],
    ),
    (
        "search",
        "pruner = { name = 'patient', patience = 1,"
        " wrapped = { name = 'median', n_warmup_steps = 30_001 } }",
        "search.pruner.wrapped.n_warmup_steps",
        ["at most 30000"],
    ),
    ("search", "pruner = 'mine:'", "search.pruner.name", ["'mine:';", '"module:Class"']),
    ("search", "pruner = 'worker.x:P'", "search.pruner.name", ["a package of Trialfleet's own"]),
    (
        "search",
        "pruner = { name = 'mine:P', patience = 3 }",
        "search.pruner.patience",
        ["unknown key; known here: name, args"],
    ),
    ("search", "pruner = { name = 'mine:P', args = 3 }", "search.pruner.args", ["3;", "a table"]),
    (
        "search",
        "pruner = { name = 'mine:P', args = { when = 2026-01-01 } }",
        "search.pruner.args.when",
        ["a date", "finite number"],
    ),
    (
        "search",
        "pruner = { name = 'none', percentile = 1 }",
        "search.pruner.percentile",
        ["unknown key"],
    ),
]


@pytest.mark.parametrize(
    ("table", "line", "field", "words"), FIELDS, ids=lambda each: str(each)[:40]
)
def test_refused(table: str, line: str, field: str, words: list[str]) -> None:
    assert_refused(table, line, field, words)


def test_each_field_has_a_refusal() -> None:
    assert never_refused("search", (field for _, _, field, _ in FIELDS)) == []
