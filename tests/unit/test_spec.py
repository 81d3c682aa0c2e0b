"""What a study file may say, what it means, and the one text that its digest is of."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.studyfiles import EXAMPLE, in_table
from trialfleet.errors import VersionMismatchError
from trialfleet.search.knobs import Choices, FloatRange, IntRange, SearchSpace
from trialfleet.search.pruners import PRUNERS, Hyperband, Median
from trialfleet.search.samplers import SAMPLERS, Cmaes, Qmc, Tpe
from trialfleet.study.differences import differences
from trialfleet.study.file import load, parse
from trialfleet.study.formats import FORMAT
from trialfleet.study.spec import Spec

STUDIES = Path(__file__).parents[2] / "studies"


def test_defaults() -> None:
    assert json.loads(parse('name = "x"', source="x").to_json()) == {
        "format": FORMAT,
        "name": "x",
        "seed": 0,
        "task": {
            "algorithm": "dqn",
            "env": "CartPole-v1",
            "env_args": {},
            "wrappers": [],
            "seeds": 4,
            "train_steps": 30_000,
            "eval_every": 5_000,
            "eval_episodes": 20,
            "keep": "best",
            "score_episodes": 50,
            "max_seconds": 0.0,
            "stall_seconds": 1_800.0,
        },
        "agent": {
            "learning_rate": 1e-3,
            "gamma": 0.99,
            "batch_size": 64,
            "buffer_size": 50_000,
            "learning_starts": 1_000,
            "train_freq": 4,
            "gradient_steps": 1,
            "target_update_interval": 250,
            "tau": 1.0,
            "exploration_initial_eps": 1.0,
            "exploration_fraction": 0.2,
            "exploration_final_eps": 0.05,
            "max_grad_norm": 10.0,
            "net_arch": [64, 64],
            "loss": "huber",
            "double_q": True,
            "normalize": "none",
            "precision": "fp32",
        },
        "search": {
            "trials": 50,
            "objectives": ["score:max"],
            "over_seeds": "mean",
            "sampler": {
                "name": "tpe",
                "n_startup_trials": 10,
                "n_ei_candidates": 24,
                "multivariate": True,
                "group": False,
                "constant_liar": True,
            },
            "pruner": {"name": "hyperband", "reduction_factor": 3},
            "audit": 0.0,
            "max_failures": 10,
            "max_attempts": 3,
        },
        "constraints": [],
        "final": {
            "top": 8,
            "race": True,
            "seeds": 12,
            "error": 0.2,
            "confirm": 30,
            "episodes": 150,
        },
        "stop": {},
        "enqueue": [],
        "priority": 1,
    }


def test_defaults_pass_their_own_checks() -> None:
    # Pydantic does not validate defaults, but it validates what they are written as.
    spec = Spec(name="x")
    assert Spec.from_json(spec.to_json()) == spec
    for name, sampler in SAMPLERS.items():
        if name not in ("cmaes", "brute_force", "grid", "partial_fixed"):
            assert parse_search(True, f'"{name}"') == sampler(name=name)
    for name, pruner in PRUNERS.items():
        if name not in ("threshold", "patient"):
            assert parse_search(False, f'"{name}"') == pruner(name=name)


def parse_search(sampler: bool, value: str) -> object:
    kind = "sampler" if sampler else "pruner"
    return getattr(parse(in_table("search", f"{kind} = {value}"), source="x").search, kind)


def test_example() -> None:
    spec = parse(EXAMPLE, source="x")
    assert spec.task.segments == 10
    assert spec.agent["learning_rate"] == FloatRange(low=1e-4, high=1e-2, log=True)
    assert spec.agent["gamma"] == FloatRange(low=0.9, high=0.99, step=0.03)
    assert spec.agent["batch_size"] == IntRange(low=32, high=128, step=32)
    assert spec.agent["net_arch"] == Choices(choices=((32,), (64, 64)))
    assert spec.agent["double_q"] == Choices(choices=(True, False))
    assert spec.agent["loss"] == "mse"
    assert spec.search.sampler == Tpe(multivariate=False)
    assert spec.search.pruner == Median(n_warmup_steps=4_000)
    assert list(spec.agent.searched()) == [
        "learning_rate",
        "gamma",
        "batch_size",
        "net_arch",
        "double_q",
    ]


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("task", "env = 'ns/Env-v3'"),
        ("task", "env_args = { is_slippery = false, desc = ['SF', 'FG'], m = { x = 1.5 } }"),
        ("task", "max_episode_steps = 50"),
        ("task", "wrappers = ['m:C', { name = 'package.m:C', factor = 2 }]"),
        ("task", "seeds = 256"),
        ("task", "train_steps = 1_000_000_000\neval_every = 100_000"),
        ("task", "eval_every = 30_000"),
        ("agent", "learning_rate = 1"),
        ("agent", "gamma = 0\ntau = 1"),
        ("agent", "gradient_steps = -1"),
        ("agent", "gradient_steps = { choices = [-1, 1] }"),
        ("agent", "batch_size = 50_000"),
        ("agent", "learning_starts = 4_999\ntrain_freq = 5_000"),
        ("agent", "learning_starts = 5_000\n[search]\npruner = 'none'"),
        ("agent", "gamma = { choices = [0.99] }"),
        ("agent", "gamma = { low = 0, high = 1 }"),
        ("agent", "gamma = { low = 0.1, high = 0.4, step = 0.1 }"),
        ("agent", "gamma = { low = 0.1, high = 0.4, step = 0.3 }"),
        ("agent", "learning_starts = { low = 0, high = 100 }"),
        ("agent", "net_arch = [1, 4096, 1, 1]"),
        ("agent", "loss = { choices = ['mse', 'huber'] }"),
        ("search", "max_failures = 0"),
        (
            "search",
            "sampler = { name = 'cmaes', allow_pickle = true }\n[agent]\ngamma = {low=0,high=1}",
        ),
        ("search", "pruner = { name = 'hyperband', min_resource = 30_000 }"),
        ("search", "trials = 3"),
        ("agent", ""),
        ("task", "algorithm = 'dqn'\nmax_seconds = 600\nstall_seconds = 0"),
    ],
)
def test_accepted(table: str, line: str) -> None:
    spec = parse(in_table(table, line), source="x")
    assert Spec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.stem)
def test_studies_that_come_with_it(path: Path) -> None:
    spec = load(path)
    assert spec.name == path.stem
    assert spec.agent.searched()
    assert Spec.from_json(spec.to_json()) == spec


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xef\xbb\xbf" + EXAMPLE.replace("\n", "\r\n").encode())
    assert load(path) == parse(EXAMPLE, source="x")


def test_golden_digests() -> None:
    # They change with the stored form alone, whose number is then raised.
    assert FORMAT == 5
    assert (
        parse('name = "x"', source="x").digest
        == "75f29135b46f40b514a6ecb9abb8837c1688e22d84df85f931593e8f72563b4a"
    )
    assert (
        parse(EXAMPLE, source="x").digest
        == "8d1f8cf3e4f12f6ca54b2dce996cce952472642ef5bfa5ce78df516c5149abcb"
    )


def test_digest_depends_on_what_is_said_not_on_how() -> None:
    def digest(text: str) -> str:
        return parse('name = "x"\n' + text, source="x").digest

    assert digest("") == digest("[agent]\ngamma = 0.99\n[search]\nsampler = { name = 'tpe' }")
    assert digest("[agent]\ntau = 1") == digest("[agent]\ntau = 1.0")
    assert digest("[agent]\ngamma = 0.0") == digest("[agent]\ngamma = -0.0")
    assert digest("[agent]\ngamma = {low=0, high=1}") == digest(
        "[agent]\ngamma = {high=1.0, low=0.0}"
    )
    different = [
        "seed = 1",
        "[agent]\ngamma = 0.98",
        "[agent]\ngamma = {choices=[0.99]}",
        "[final]\ntop = 2",
    ]
    assert len({digest(text) for text in ["", *different]}) == 5


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "[]",
        "4",
        "{",
        '{"name": "x", "new_field": 1}',
        '{"name": "x", "format": 99}',
        '{"name": "x", "format": 0}',
        '{"name": "x", "format": true}',
        '{"name": "x", "task": 4}',
        '{"name": "x", "seed": NaN}',
        '{"seed": 1}',
    ],
)
def test_what_another_version_stored(stored: str) -> None:
    with pytest.raises(VersionMismatchError) as refused:
        Spec.from_json(stored)
    assert str(refused.value).startswith("the study as stored")
    assert str(refused.value).isprintable()


def test_nothing_of_a_study_changes() -> None:
    spec = Spec(name="x")
    with pytest.raises(ValueError, match="frozen"):
        spec.task.seeds = 5
    assert hash(spec) == hash(Spec(name="x"))


def test_differences() -> None:
    here = parse(EXAMPLE, source="x")
    there = parse(
        EXAMPLE.replace("seed = 3", "seed = 4")
        .replace('"mse"', '"huber"')
        .replace("trials = 20", "trials = 30")
        .replace("log = true", "log = false")
        .replace('{ name = "median", n_warmup_steps = 4_000 }', '"none"'),
        source="x",
    )
    assert differences(here, here) == []
    assert differences(there, here) == [
        "seed: 4 there, 3 here",
        "agent.learning_rate: { low = 0.0001, high = 0.01, log = false } there,"
        " { low = 0.0001, high = 0.01, log = true } here",
        'agent.loss: "huber" there, "mse" here',
        "search.trials: 30 there, 20 here",
        'search.pruner: { name = "none" } there, { name = "median", n_startup_trials = 5,'
        " n_warmup_steps = 4000, n_min_trials = 1 } here",
    ]


def test_models_take_objects_as_files_do() -> None:
    cmaes = Cmaes(allow_pickle=True, popsize=8)
    file = "{ name = 'cmaes', allow_pickle = true, popsize = 8 }\n[agent]\ntau = {low=0.1,high=1}"
    spec = parse(in_table("search", f"sampler = {file}"), source="x")
    assert spec.search.sampler == cmaes
    assert parse_search(True, "'qmc'") == Qmc()
    assert parse_search(False, "'hyperband'") == Hyperband()
    tau = SearchSpace({"tau": FloatRange(low=0.1, high=1)})
    assert Spec(name="x", search=spec.search, agent=tau) == spec
    assert type(spec.search)(sampler=cmaes) == spec.search


def test_reading_a_study_file_loads_no_optimizer() -> None:
    # `trialfleet status` and every --help read specs: half a second of imports each, were it so.
    code = (
        "import sys, trialfleet.study.file;"
        "print([m for m in ('optuna', 'torch', 'gymnasium', 'numpy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
