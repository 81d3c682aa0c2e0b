"""What is refused in a study file: where, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.studyfiles import EXAMPLE, in_table
from tuning.errors import StudyFileError
from tuning.spec import Spec
from tuning.studyfile import MAX_BYTES, load, parse


def refusal(text: str) -> str:
    """What is said of the study file of this text, after the file's name."""
    with pytest.raises(StudyFileError) as refused:
        parse(text, source="studies/x.toml")
    message = str(refused.value)
    assert message.startswith("studies/x.toml: ")
    assert message.isprintable(), "one line, with nothing that moves a cursor"
    assert len(message) < 500
    return message.removeprefix("studies/x.toml: ")


def assert_taken_or_explained(text: str) -> None:
    try:
        spec = parse(text, source="x.toml")
    except StudyFileError as error:
        message = str(error)
    else:
        assert Spec.from_json(spec.to_json()) == spec
        return
    assert message.startswith("x.toml: ")
    assert message.isprintable()
    assert len(message) < 500
    assert "Input should be" not in message, "pydantic's words, not ours"


WHOLE = "must be a whole number from"

FIELDS: list[tuple[str, str, str, list[str]]] = [
    # table, line, field in the message, words in the message
    ("task", "env = ''", "task.env", ["''", "Gymnasium"]),
    ("task", "env = 4", "task.env", ["4;", "Gymnasium"]),
    ("task", f"env = '{'a' * 201}'", "task.env", ["…", "1 to 200"]),
    ("task", 'env = "Cart\\u0000Pole"', "task.env", ["'Cart\\x00Pole'"]),
    ("task", "env = 'Cart Pole'", "task.env", ["'Cart Pole'"]),
    ("task", "seeds = 0", "task.seeds", ["0;", f"{WHOLE} 1 to 256"]),
    ("task", "seeds = 257", "task.seeds", ["257;", f"{WHOLE} 1 to 256"]),
    ("task", "seeds = true", "task.seeds", ["true;", WHOLE]),
    ("task", "seeds = '4'", "task.seeds", ["'4';", WHOLE]),
    ("task", "seeds = 4.0", "task.seeds", ["4.0;", WHOLE]),
    ("task", "seeds = []", "task.seeds", ["[];", WHOLE]),
    ("task", "seeds = {}", "task.seeds", ["a table;", WHOLE]),
    ("task", "seeds = 2026-01-01", "task.seeds", ["a date", WHOLE]),
    ("task", "seeds = 07:32:00", "task.seeds", ["a date or time", WHOLE]),
    ("task", "seeds = inf", "task.seeds", ["inf;", WHOLE]),
    ("task", "seeds = 0x" + "f" * 200, "task.seeds", ["dozens of digits", WHOLE]),
    ("task", "seeds = 0x" + "f" * 9000, "task.seeds", ["dozens of digits", WHOLE]),
    ("task", "train_steps = 0", "task.train_steps", ["0;", WHOLE]),
    ("task", "train_steps = 1_000_000_001", "task.train_steps", ["to 1000000000"]),
    ("task", "train_steps = 3e4", "task.train_steps", ["30000.0;", WHOLE]),
    ("task", "eval_every = 0", "task.eval_every", ["0;", WHOLE]),
    (
        "task",
        "eval_every = 7000",
        "task.eval_every",
        ["7000 does not divide train_steps (30000); use a divisor such as 7500"],
    ),
    ("task", "eval_every = 40_000", "task.eval_every", ["40000 does not divide", "such as 30000"]),
    ("task", "eval_every = 2", "task.eval_every", ["15000 evaluations", "at most 10000"]),
    ("task", "eval_episodes = 0", "task.eval_episodes", ["0;", f"{WHOLE} 1 to 10000"]),
    ("task", "eval_episodes = 10_001", "task.eval_episodes", ["10001;"]),
    ("task", 'keep = "first"', "task.keep", ["'first';", '"best"', '"last"']),
    ("task", "score_episodes = -1", "task.score_episodes", ["-1;", f"{WHOLE} 1 to 10000"]),
    ("agent", "learning_rate = 0", "agent.learning_rate", ["0;", "a number above 0 and at most 1"]),
    ("agent", "learning_rate = 1.1", "agent.learning_rate", ["1.1;"]),
    ("agent", "learning_rate = nan", "agent.learning_rate", ["nan;", "a number above 0"]),
    ("agent", "learning_rate = '1e-3'", "agent.learning_rate", ["'1e-3';"]),
    ("agent", "gamma = -0.1", "agent.gamma", ["-0.1;", "a number from 0 to 1"]),
    ("agent", "gamma = 1.01", "agent.gamma", ["1.01;"]),
    ("agent", "gamma = inf", "agent.gamma", ["inf;"]),
    ("agent", "gamma = -nan", "agent.gamma", ["nan;"]),
    ("agent", "gamma = true", "agent.gamma", ["true;", "a number"]),
    ("agent", "gamma = [0.9, 0.99]", "agent.gamma", ["[0.9, 0.99];", "a number"]),
    ("agent", "gamma = 0x" + "f" * 2000, "agent.gamma", ["dozens of digits"]),
    ("agent", "batch_size = 0", "agent.batch_size", ["0;", f"{WHOLE} 1 to 65536"]),
    ("agent", "batch_size = 32.0", "agent.batch_size", ["32.0;", WHOLE]),
    ("agent", "batch_size = false", "agent.batch_size", ["false;", WHOLE]),
    ("agent", "buffer_size = 10_000_001", "agent.buffer_size", ["to 10000000"]),
    ("agent", "learning_starts = -1", "agent.learning_starts", ["-1;", f"{WHOLE} 0 to"]),
    ("agent", "train_freq = 0", "agent.train_freq", ["0;", f"{WHOLE} 1 to"]),
    ("agent", "gradient_steps = 0", "agent.gradient_steps", ["0;", "must be -1 or a whole number"]),
    ("agent", "gradient_steps = -2", "agent.gradient_steps", ["-2;"]),
    (
        "agent",
        "gradient_steps = { low = -1, high = 4 }",
        "agent.gradient_steps.low",
        ["-1;", f"{WHOLE} 1 to"],
    ),
    ("agent", "target_update_interval = 0", "agent.target_update_interval", ["0;"]),
    ("agent", "tau = 0", "agent.tau", ["0;", "above 0 and at most 1"]),
    ("agent", "tau = 1.5", "agent.tau", ["1.5;"]),
    ("agent", "exploration_initial_eps = 2", "agent.exploration_initial_eps", ["2;"]),
    ("agent", "exploration_fraction = -1", "agent.exploration_fraction", ["-1;"]),
    ("agent", "exploration_final_eps = 1.1", "agent.exploration_final_eps", ["1.1;"]),
    ("agent", "max_grad_norm = 0", "agent.max_grad_norm", ["0;", "above 0"]),
    ("agent", "max_grad_norm = inf", "agent.max_grad_norm", ["inf;"]),
    ("agent", "net_arch = []", "agent.net_arch", ["[];", "1 to 4 widths"]),
    ("agent", "net_arch = [1, 2, 3, 4, 5]", "agent.net_arch", ["[1, 2, 3, 4, 5];"]),
    ("agent", "net_arch = [64, 0]", "agent.net_arch", ["[64, 0];"]),
    ("agent", "net_arch = [4097]", "agent.net_arch", ["[4097];"]),
    ("agent", "net_arch = [64.0]", "agent.net_arch", ["[64.0];"]),
    ("agent", "net_arch = [true]", "agent.net_arch", ["[true];"]),
    ("agent", "net_arch = 64", "agent.net_arch", ["64;", "a list of 1 to 4 widths"]),
    ("agent", "net_arch = [[64]]", "agent.net_arch", ["a list;"]),
    ("agent", "loss = 'l2'", "agent.loss", ["'l2';", 'one of "huber", "mse"']),
    ("agent", "loss = 'Huber'", "agent.loss", ["did you mean huber?"]),
    ("agent", "double_q = 1", "agent.double_q", ["1;", "true or false"]),
    ("agent", "precision = 'fp16'", "agent.precision", ["'fp16';", 'one of "fp32", "bf16"']),
    ("agent", "double_q = 'true'", "agent.double_q", ["'true';"]),
    # ranges
    ("agent", "gamma = {}", "agent.gamma.low", ["is missing", "low and high"]),
    ("agent", "gamma = { low = 0.9 }", "agent.gamma.high", ["is missing", "low and high"]),
    ("agent", "gamma = { hihg = 1, low = 0 }", "agent.gamma.hihg", ["did you mean high?"]),
    ("agent", "gamma = { low = 0.9, high = 0.9 }", "agent.gamma.low", ["use a plain value"]),
    ("agent", "gamma = { low = 0.9, high = 0.8 }", "agent.gamma.low", ["0.9 is above high (0.8)"]),
    ("agent", "gamma = { low = -1, high = 0.8 }", "agent.gamma.low", ["-1;", "from 0 to 1"]),
    ("agent", "gamma = { low = 0.1, high = 2 }", "agent.gamma.high", ["2;", "from 0 to 1"]),
    ("agent", "gamma = { low = 0.1, high = nan }", "agent.gamma.high", ["nan;"]),
    (
        "agent",
        "gamma = { low = 0, high = 1, log = true }",
        "agent.gamma.low",
        ["0.0;", "above 0 where log"],
    ),
    (
        "agent",
        "gamma = { low = 0.1, high = 1, log = 1 }",
        "agent.gamma.log",
        ["1;", "true or false"],
    ),
    (
        "agent",
        "gamma = { low = 0.1, high = 1, log = true, step = 0.1 }",
        "agent.gamma.step",
        ["log = true"],
    ),
    ("agent", "gamma = { low = 0.1, high = 1, step = 0 }", "agent.gamma.step", ["0;", "above 0"]),
    (
        "agent",
        "gamma = { low = 0.1, high = 0.4, step = 0.4 }",
        "agent.gamma.step",
        ["0.4;", "at most 0.3"],
    ),
    ("agent", "gamma = { low = 0.1, high = 1, step = inf }", "agent.gamma.step", ["inf;"]),
    (
        "agent",
        "gamma = { low = 0.1, high = 0.5, step = 0.3 }",
        "agent.gamma.step",
        ["use high = 0.4"],
    ),
    ("agent", "gamma = { low = 0, high = 1, step = 1e-320 }", "agent.gamma.step", ["too small"]),
    ("agent", "batch_size = { low = 8.0, high = 64 }", "agent.batch_size.low", ["8.0;", WHOLE]),
    (
        "agent",
        "batch_size = { low = 8, high = 64, step = 0.5 }",
        "agent.batch_size.step",
        [f"{WHOLE} 1 to 56"],
    ),
    ("agent", "batch_size = { low = 8, high = 64, step = 57 }", "agent.batch_size.step", ["57;"]),
    (
        "agent",
        "batch_size = { low = 10, high = 100, step = 8 }",
        "agent.batch_size.step",
        ["use high = 98"],
    ),
    (
        "agent",
        "learning_starts = { low = 0, high = 9, log = true }",
        "agent.learning_starts.low",
        ["0;"],
    ),
    ("agent", "double_q = { low = false, high = true }", "agent.double_q", ["a range", "choices"]),
    ("agent", "loss = { low = 'a', high = 'b' }", "agent.loss", ["a range", "choices"]),
    ("agent", "net_arch = { low = [1], high = [2] }", "agent.net_arch", ["a range", "choices"]),
    # choices
    ("agent", "gamma = { choices = [] }", "agent.gamma.choices", ["an empty list", "1 to 1000"]),
    ("agent", "gamma = { choices = 0.9 }", "agent.gamma.choices", ["0.9;", "a list"]),
    ("agent", "gamma = { choices = [0.9, 2] }", "agent.gamma.choices[1]", ["2;", "from 0 to 1"]),
    ("agent", "gamma = { choices = [0.9, 'x'] }", "agent.gamma.choices[1]", ["'x';"]),
    (
        "agent",
        "gamma = { choices = [1, 0.5, 1.0] }",
        "agent.gamma.choices[2]",
        ["1.0 is there twice"],
    ),
    ("agent", "gamma = { choices = [0.9], low = 0.1 }", "agent.gamma.low", ["beside choices"]),
    (
        "agent",
        "gamma = { choices = [0.9], logg = true }",
        "agent.gamma.logg",
        ["did you mean log?"],
    ),
    (
        "agent",
        "net_arch = { choices = [[8], [8]] }",
        "agent.net_arch.choices[1]",
        ["[8] is there twice"],
    ),
    ("agent", "net_arch = { choices = [64, 128] }", "agent.net_arch.choices[0]", ["64;", "widths"]),
    ("agent", "double_q = { choices = [true, 1] }", "agent.double_q.choices[1]", ["1;"]),
    (
        "agent",
        f"batch_size = {{ choices = [{', '.join(map(str, range(1, 1002)))}] }}",
        "agent.batch_size.choices",
        ["1 to 1000"],
    ),
    # search
    ("search", "trials = 0", "search.trials", ["0;", f"{WHOLE} 1 to 1000000"]),
    ("search", "trials = 1_000_001", "search.trials", ["1000001;"]),
    ("search", "max_failures = -1", "search.max_failures", ["-1;", f"{WHOLE} 0 to"]),
    ("search", "max_attempts = 0", "search.max_attempts", ["0;", f"{WHOLE} 1 to"]),
    ("search", "sampler = 'tpee'", "search.sampler", ["'tpee';", "did you mean tpe?"]),
    ("search", "sampler = 'grid'", "search.sampler", ['"tpe", "random", "qmc", "gp", "cmaes"']),
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
    (
        "search",
        "pruner = { name = 'none', percentile = 1 }",
        "search.pruner.percentile",
        ["unknown key"],
    ),
    # final
    ("final", "top = 0", "final.top", ["0;", WHOLE]),
    ("final", "top = 51", "final.top", ["51 is more than search.trials (50); must be at most 50"]),
    ("final", "seeds = 257", "final.seeds", ["257;", f"{WHOLE} 1 to 256"]),
    ("final", "episodes = 0", "final.episodes", ["0;", WHOLE]),
    # what two fields say of each other
    ("agent", "buffer_size = 63", "agent.batch_size", ["up to 64", "smallest buffer_size (63)"]),
    (
        "agent",
        "buffer_size = { choices = [999, 100] }\nbatch_size = { low = 8, high = 101 }",
        "agent.batch_size",
        ["up to 101", "(100)"],
    ),
    (
        "agent",
        "learning_starts = 5_001",
        "agent.learning_starts",
        ["5001", "task.eval_every (5000)"],
    ),
    (
        "agent",
        "learning_starts = { choices = [1, 6_000] }",
        "agent.learning_starts",
        ["up to 6000"],
    ),
    ("agent", "train_freq = { low = 1, high = 5_001 }", "agent.train_freq", ["up to 5001"]),
    ("task", "eval_every = 500", "agent.learning_starts", ["up to 1000", "task.eval_every (500)"]),
    # unknown keys
    ("task", "trian_steps = 4", "task.trian_steps", ["did you mean train_steps?"]),
    ("task", "zzz = 4", "task.zzz", ["known here: env, seeds, train_steps"]),
    ("agent", "lr = 4", "agent.lr", ["unknown key"]),
    ("agent", "learning-rate = 4", "agent.learning-rate", ["did you mean learning_rate?"]),
    ("search", "n_trials = 4", "search.n_trials", ["did you mean trials?"]),
    ("final", "episode = 4", "final.episode", ["did you mean episodes?"]),
    ("agents", "gamma = 0.9", "agents", ["did you mean agent?"]),
    ("task.more", "x = 1", "task.more", ["unknown key"]),
    ("task", "'a\\nb' = 1", "task.'a\\\\nb'", ["unknown key"]),
    ("agent.gamma", "high = 1\nlow.x = 1", "agent.gamma.low", ["a table;"]),
]


@pytest.mark.parametrize(
    ("table", "line", "field", "words"), FIELDS, ids=lambda each: str(each)[:40]
)
def test_refused(table: str, line: str, field: str, words: list[str]) -> None:
    message = refusal(in_table(table, line))
    assert message.startswith(f"{field}: "), message
    for each in words:
        assert each in message


def test_each_field_has_a_refusal() -> None:
    refused = {field for _, _, field, _ in FIELDS}
    for table in ("task", "agent", "search", "final"):
        model = type(getattr(Spec(name="x"), table))
        for name in model.model_fields:
            assert any(each.startswith(f"{table}.{name}") for each in refused), (table, name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "name: is missing; must be given"),
        ("name = 4", "name: 4; must be 1 to 64 letters"),
        ("name = ''", "name: ''; must be"),
        ("name = '.x'", "name: '.x'; must be"),
        ("name = 'x y'", "name: 'x y'; must be"),
        ("name = '../x'", "name: '../x'; must be"),
        ("name = '<script>alert(1)</script>'", "name: '<script>alert(1)</script>'; must be"),
        ("""name = "x'; DROP TABLE trials; --" """, 'name: "x\'; DROP TABLE trials; --"; must be'),
        ('name = "x\\u0000y"', "name: 'x\\x00y'; must be"),
        ('name = "x\\n"', "name: 'x\\n'; must be"),
        ('name = "\\u202Eelif.x"', "name: '\\u202eelif.x'; must be"),
        ('name = "\\u200Fx"', "name: '\\u200fx'; must be"),
        ("name = 'é'", "name: 'é'; must be"),
        (f"name = '{'x' * 65}'", f"name: '{'x' * 60}'…; must be"),
        (f"name = '{'x' * 600}'", f"name: '{'x' * 60}'…; must be"),
        ("name = 'x.final'", "name: 'x.final'; must not end with .final"),
        ("name = 'x.FINAL'", "name: 'x.FINAL'; must not end with .final"),
        ("name = ['x']", "name: ['x']; must be"),
        ("name = 'x'\nseed = -1", "seed: -1; must be a whole number from 0 to 4294967295"),
        ("name = 'x'\nseed = 4294967296", "seed: 4294967296; must be"),
        ("name = 'x'\nseed = true", "seed: true; must be"),
        ("name = 'x'\ntask = 4", "task: 4; must be a table"),
        ("name = 'x'\n[[agent]]\ngamma = 0.9", "agent: a list; must be a table"),
        ("name = 'x'\nsearch = 2020-01-01", "search: a date or time; must be a table"),
        ("name = 'x'\ntrials = 4", "trials: unknown key here; it belongs under [search]"),
        ("name = 'x'\nseeds = 4", "seeds: unknown key (did you mean seed?)"),
        ('name = "x"\n"a\\nb" = 4', "'a\\nb': unknown key"),
        # Misspelled keys come first: they explain the others.
        ("nmae = 'x'", "nmae: unknown key (did you mean name?)"),
        ("name = 4\n[final]\ntopp = 1", "final.topp: unknown key (did you mean top?)"),
        # TOML itself
        ("name = 'x'\nname = 'y'", "line 2, the last: Cannot overwrite a value"),
        ("name = 'x'\n[task]\n[task]\n", "line 3, column 6: Cannot declare ('task',) twice"),
        ("name = 'x'\n\n[task\n", "line 3, column 6: "),
        ("name = x", "line 1, column 8: Invalid value"),
        ("name = 'x\x00'", "line 1, column 10: "),
        ("a = " + "[" * 5_000, "is nested too deeply"),
        ("seed = " + "9" * 5_000, "holds a number of thousands of digits"),
        ("a" + ".a" * 5_000, "line 1: is longer than 10000 characters"),
        ("x = 2026-13-45", "line 1, column "),
    ],
    ids=lambda each: str(each)[:40],
)
def test_refused_file(text: str, expected: str) -> None:
    assert refusal(text).startswith(expected), refusal(text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    def reason(path: Path) -> str:
        with pytest.raises(StudyFileError) as refused:
            load(path)
        assert str(refused.value).isprintable()
        return str(refused.value)

    path = tmp_path / "x.toml"
    assert reason(path) == f"{path}: no such file; give the path of a study file"
    assert reason(tmp_path) == f"{tmp_path}: is a directory; give the path of a study file"
    assert "cannot be read" in reason(tmp_path / "x\0y")
    assert "cannot be read" in reason(tmp_path / ("x" * 300))
    assert "\\n" in reason(tmp_path / "x\ny")
    path.write_bytes(b"name = 'x'\n# \xff\n")
    assert reason(path) == f"{path}: line 2: is not UTF-8; save the file as UTF-8"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    assert "is larger than 100 kB" in reason(path)
    path.write_bytes(b"#\n" * (MAX_BYTES // 2))
    assert "name: is missing" in reason(path)
    assert "cannot be read" in reason(path / "x")


@given(st.data())
def test_whatever_happens_to_a_file_it_is_refused_in_one_line(data: st.DataObject) -> None:
    text = EXAMPLE
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 12)))
        piece = data.draw(
            st.one_of(
                st.sampled_from(MANGLES),
                st.text(max_size=4),
                st.integers().map(str),
                st.floats().map(repr),
            )
        )
        text = text[:start] + piece + text[end:]
    assert_taken_or_explained(text)


MANGLES = [
    *(
        "",
        "\n",
        '"',
        "'",
        '"""',
        "[",
        "]",
        "[[",
        "{",
        "}",
        "=",
        ",",
        ".",
        "#",
        "\0",
        "-",
        "_",
        "\\",
    ),
    *("nan", "inf", "-inf", "true", "1e999", "2026-01-01", "0x", "[task]\n", "[agent.gamma]\n"),
    *("{ low = ", "high = ", "choices = [", "step = ", "log = true", "name = ", "\u202e", "\ud7ff"),
]


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.dates()
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["low", "high", "log", "step", "choices", "name", "x"]), inner
        ),
    ),
)


@given(st.data())
def test_any_value_of_any_field_is_taken_or_explained(data: st.DataObject) -> None:
    tables: dict[str, Any] = {"name": "x"}
    table = data.draw(st.sampled_from(["task", "agent", "search", "final"]))
    field = data.draw(st.sampled_from(list(type(getattr(Spec(name="x"), table)).model_fields)))
    tables[table] = {field: data.draw(VALUES)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tuning.studyfile.tomllib.loads", lambda text: tables)
        assert_taken_or_explained("")
