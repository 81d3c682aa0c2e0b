"""What is refused of the tables task, agent and final: where, and in which words."""

from __future__ import annotations

import pytest

from tests.support.studyfiles import (
    WHOLE,
    assert_refused,
    in_table,
    never_refused,
    refusal,
)
from trialfleet.study.file import parse
from trialfleet.study.spec import Spec

FIELDS: list[tuple[str, str, str, list[str]]] = [
    # table, line, field in the message, words in the message
    ("task", "algorithm = 'dpn'", "task.algorithm", ["'dpn';", 'one of "dqn"', "mean dqn?"]),
    ("task", "algorithm = 4", "task.algorithm", ["4;", 'one of "dqn"']),
    ("task", "objective = 'mine'", "task.objective", ["'mine';", '"module:function"']),
    ("task", "max_seconds = -1", "task.max_seconds", ["-1;", "a number from 0 to"]),
    ("task", "stall_seconds = inf", "task.stall_seconds", ["inf;", "a number from 0 to"]),
    ("task", "env = ''", "task.env", ["''", "Gymnasium"]),
    ("task", "env = 4", "task.env", ["4;", "Gymnasium"]),
    ("task", f"env = '{'a' * 201}'", "task.env", ["…", "1 to 200"]),
    ("task", 'env = "Cart\\u0000Pole"', "task.env", ["'Cart\\x00Pole'"]),
    ("task", "env = 'Cart Pole'", "task.env", ["'Cart Pole'"]),
    ("task", "env_args = 3", "task.env_args", ["3; must be a table of at most 100 arguments"]),
    ("task", "env_args = { render_mode = 'human' }", "task.env_args.render_mode", ["left out"]),
    ("task", "env_args = { max_episode_steps = 3 }", "task.env_args.max_episode_steps", ["which"]),
    ("task", "env_args = { 'a b' = 3 }", "task.env_args.'a b'", ["the name of an argument"]),
    ("task", "env_args = { a = nan }", "task.env_args.a", ["must be a finite number"]),
    ("task", "env_args = { a = 2026-01-01 }", "task.env_args.a", ["must be a finite number"]),
    ("task", "env_args = { a = [[[[[1]]]]] }", "task.env_args.a", ["must be a finite number"]),
    ("task", "max_episode_steps = 0", "task.max_episode_steps", ["0;", WHOLE]),
    ("task", "wrappers = 'm:C'", "task.wrappers", ["'m:C'; must be a list of at most 20"]),
    ("task", "wrappers = [3]", "task.wrappers[0]", ["must be a list of at most 20"]),
    ("task", "wrappers = ['m']", "task.wrappers[0].name", ["'m'; must be", "module:Class"]),
    ("task", "wrappers = ['worker:C']", "task.wrappers[0].name", ["Trialfleet's own"]),
    ("task", "wrappers = [{ a = 1 }]", "task.wrappers[0].name", ["is missing"]),
    ("task", "wrappers = [{ name = 'm:C', a = nan }]", "task.wrappers[0].a", ["finite"]),
    ("task", "returns = 500", "task.returns", ["500; must be { low = …, high = … }, the least"]),
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
    ("agent", "normalize = 'runing'", "agent.normalize", ["'runing';", "mean running?"]),
    (
        "agent",
        "normalize = { choices = ['none', 'fixed'] }\nlearning_starts = 99",
        "agent.normalize",
        ["learning_starts (99)", "at least 100"],
    ),
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
    (
        "agent",
        "batch_size = { choices = [" + ",\n".join(map(str, range(1, 10_001))) + "] }",
        "agent.batch_size.choices",
        ["a list of 10000 values; must be a list of 1 to 1000"],
    ),
    # what is written elsewhere, and how it is written here
    (
        "agent",
        "learning_rate = [1e-4, 1e-2]",
        "agent.learning_rate",
        ["to search, write { low = 0.0001, high = 0.01 }, or { choices = [0.0001, 0.01] }"],
    ),
    (
        "agent",
        "net_arch = [[64], [32]]",
        "agent.net_arch",
        ["to search, write { choices = […] }"],
    ),
    ("agent", "double_q = [true, false]", "agent.double_q", ["{ choices = [true, false] }"]),
    (
        "agent",
        "gamma = { min = 0.9, max = 0.99 }",
        "agent.gamma.min",
        ["a range is { low = 0.9, high = 0.99 }"],
    ),
    (
        "agent",
        "gamma = { distribution = 'log_uniform_values', min = 0.9, max = 0.99 }",
        "agent.gamma.distribution",
        ["a range is { low = 0.9, high = 0.99 }"],
    ),
    (
        "agent",
        "batch_size = { values = [32, 64] }",
        "agent.batch_size.values",
        ["choices are { choices = [32, 64] }"],
    ),
    ("agent", "gamma = { value = 0.9 }", "agent.gamma.value", ["a plain value without a table"]),
    ("task", "train_steps = 2e4", "task.train_steps", ["20000.0;", "write 20_000"]),
    ("agent", "buffer_size = 1e5", "agent.buffer_size", ["write 100_000"]),
    ("task", "seeds = 4.5", "task.seeds", ["4.5; must be a whole number from 1 to 256"]),
    (
        "task",
        "seed = 3",
        "task.seed",
        ["unknown key here; it belongs at the top, above the first table (did you mean seeds?)"],
    ),
    ("agent", "trials = 3", "agent.trials", ["unknown key here; it belongs under [search]"]),
    ("agent", "policy = 'MlpPolicy'", "agent.policy", ["must be left out", "agent.net_arch"]),
    ("agent", "n_timesteps = 50_000", "agent.n_timesteps", ["task.train_steps"]),
    (
        "task",
        "algorithm = 'ppo'",
        "task.algorithm",
        ["a function of your own, which task.objective names (docs/own-training.md)"],
    ),
    # final
    ("final", "top = 0", "final.top", ["0;", WHOLE]),
    ("final", "top = 51", "final.top", ["51 is more than search.trials (50); must be at most 50"]),
    ("final", "race = 1", "final.race", ["1;", "true or false"]),
    ("final", "error = 0", "final.error", ["0;", "a number above 0 and at most 0.5"]),
    ("final", "confirm = -1", "final.confirm", ["-1;", WHOLE]),
    ("final", "solved = nan", "final.solved", ["nan;", "a number from"]),
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
    ("task", "zzz = 4", "task.zzz", ["known here: algorithm, objective, env, env_args"]),
    ("agent", "lr = 4", "agent.lr", ["agent.learning_rate is the learning rate"]),
    ("agent", "learning-rate = 4", "agent.learning-rate", ["did you mean learning_rate?"]),
    ("search", "n_trials = 4", "search.n_trials", ["search.trials is the number of trials"]),
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
    assert_refused(table, line, field, words)


@pytest.mark.parametrize("table", ["task", "agent", "final"])
def test_each_field_has_a_refusal(table: str) -> None:
    assert never_refused(table, (field for _, _, field, _ in FIELDS)) == []


STARTS = "eval_every = 5_000\n[agent]\nlearning_starts = "


@pytest.mark.parametrize(
    ("lines", "first_update"),
    [
        ("5_000", 5004),
        ("{ low = 0, high = 5_000 }", 5004),
        ("4_999\ntrain_freq = 3", 5001),
        ("4_992\ntrain_freq = { choices = [5, 64] }", 5056),
        ("4_990\ntrain_freq = { low = 1, high = 20 }", 5010),
        ("5_000\n[search]\npruner = { name = 'median', n_warmup_steps = 5_000 }", 5004),
        ("5_000\n[search]\npruner = { name = 'threshold', lower = 3 }", 5004),
        ("5_000\n[search]\npruner = { name = 'successive_halving', min_resource = 9 }", 5004),
        ("5_000\n[search]\npruner = 'm:Own'", 5004),
    ],
)
def test_a_pruner_that_judges_the_untrained_is_refused(lines: str, first_update: int) -> None:
    message = refusal(in_table("task", f"{STARTS}{lines}"))
    assert message.startswith("agent.learning_starts: ")
    assert f"has the first update come at step {first_update}" in message
    assert "the pruner judges agents at step 5000 already; must be smaller" in message


@pytest.mark.parametrize(
    "lines",
    [
        "4_999",
        "4_997\ntrain_freq = 3",
        "4_991\ntrain_freq = { choices = [4, 8] }",
        "5_000\n[search]\npruner = 'none'",
        "5_000\n[search]\npruner = { name = 'median', n_warmup_steps = 5_001 }",
        "5_000\n[search]\npruner = { name = 'percentile', n_warmup_steps = 10_000 }",
        "5_000\n[search]\npruner = { name = 'hyperband', min_resource = 5_001 }",
        "5_000\n[search]\npruner = { name = 'successive_halving', min_early_stopping_rate = 1 }",
        "5_000\n[search]\npruner = { name = 'patient', patience = 0 }",
    ],
)
def test_one_that_begins_later_is_not(lines: str) -> None:
    parse(in_table("task", f"{STARTS}{lines}"), source="x")


def test_a_study_that_was_begun_with_such_a_pruner_is_read() -> None:
    spec = parse(in_table("task", f"{STARTS}4_999"), source="x")
    stored = spec.to_json().replace('"learning_starts":4999', '"learning_starts":5000')
    assert Spec.from_json(stored).agent["learning_starts"] == 5000
