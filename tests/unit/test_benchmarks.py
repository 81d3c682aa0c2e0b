"""The arithmetic of the benchmarks, and their tables."""

from __future__ import annotations

import math
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn import Linear, ReLU, Sequential

from benchmarks import curves, search, terminal
from benchmarks.search import ROOT, Outcome, variant
from benchmarks.worker_overhead import TRAINING, Stopwatch, outside
from trialfleet.study.file import load
from worker.trainers.dqn.network import load_network


def test_curves_are_read_as_written_and_compared_where_both_were_evaluated(tmp_path: Path) -> None:
    ours = {seed: {10: 100.0 + seed, 20: 200.0, 30: 1.0} for seed in range(5)}
    sb3 = {seed: {10: 100.5 + seed, 20: 300.0} for seed in range(4)}
    for who, kept in (("ours", ours), ("sb3", sb3)):
        curves.write(curves.path(tmp_path, "light", who), kept)
    read = [curves.read(curves.path(tmp_path, "light", who)) for who in curves.LEARNERS]
    assert read == [ours, sb3]
    rows = curves.compare(*read)
    assert [row.step for row in rows] == [10, 20]
    # Of the 126 ways to divide five and four seeds, one is as far apart; two evaluations.
    assert rows[1].p == pytest.approx(2 / 126)
    lines = curves.table(rows).splitlines()
    assert lines[-2].endswith("1.00")
    assert lines[-1].endswith("0.02")
    assert "200.0" in lines[-1]


def test_a_foreign_network_is_evaluated_as_it_is() -> None:
    theirs = Sequential(Linear(4, 8), ReLU(), Linear(8, 8), ReLU(), Linear(8, 2))
    ours = load_network(curves.sb3_arrays(SimpleNamespace(q_net=theirs)))
    seen = torch.linspace(-1.0, 1.0, 12).view(3, 4)
    torch.testing.assert_close(ours(seen.unsqueeze(0))[0], theirs(seen))


def outcome(*, sampler: str, study_seed: int, trials: int, found: bool = True) -> Outcome:
    return Outcome(
        sampler=sampler,
        pruner="none",
        seeds=4,
        eval_every=1_250,
        study_seed=study_seed,
        found=found,
        trials=trials,
        agent_steps=1_000 * trials,
    )


def test_a_search_that_found_nothing_counts_as_the_longest() -> None:
    assert search.median([3.0, math.inf, 1.0]) == 3.0
    assert search.median([3.0, math.inf]) == 3.0
    assert search.median([3.0, math.inf, math.inf]) == math.inf
    lines = search.table(
        [outcome(sampler="random", study_seed=n, trials=5, found=n == 0) for n in range(3)]
        + [outcome(sampler="tpe", study_seed=n, trials=5 + n, found=n < 2) for n in range(3)]
    ).splitlines()
    # The best first, although both have spent as many trials at least.
    assert lines[1].split()[:7] == ["tpe", "none", "4", "1250", "2/3", "6", "6"]
    assert lines[2].split()[:7] == ["random", "none", "4", "1250", "1/3", "–", "–"]


def test_a_variant_differs_in_what_was_asked_for_alone() -> None:
    spec = load(ROOT / "studies" / "cartpole.toml")
    other = variant(
        spec,
        sampler="cmaes",
        pruner='{ name = "median" }',
        seeds=2,
        eval_every=10_000,
        study_seed=5,
    )
    assert (other.search.sampler.name, other.search.pruner.name) == ("cmaes", "median")
    assert (other.task.seeds, other.task.eval_every, other.seed) == (2, 10_000, 5)
    assert (other.agent, other.final, other.name) == (spec.agent, spec.final, spec.name)
    same = variant(spec, sampler="tpe", pruner="none", study_seed=spec.seed)
    assert same.task == spec.task


def test_a_part_inside_another_is_not_counted_twice() -> None:
    watch = Stopwatch()
    watch.seconds |= {TRAINING: 9.0, "claim": 0.5, "finish": 0.4}
    assert outside([watch, watch], beat_seconds=0.2) == pytest.approx(2.0 / 19.8)
    nested = Stopwatch()
    with nested.part("outer"), nested.part("inner"):
        busy = sum(range(10_000))
    assert busy
    assert nested.seconds["inner"] > nested.seconds["outer"] > 0.0


LIVE = """
from rich.live import Live

with Live(auto_refresh=False) as live:
    for step in "one", "two":
        live.update(f"[bold]{step}[/] & [red]<more>[/]\\nand more", refresh=True)
"""


def test_what_a_live_display_draws_is_kept_picture_by_picture(tmp_path: Path) -> None:
    drawn = terminal.frames(
        [sys.executable, "-c", LIVE],
        folder=tmp_path,
        environment=os.environ,
        log=tmp_path / "log",
    )
    assert [("one" in each, "two" in each) for each in drawn[-3:-1]] == [
        (True, False),
        (False, True),
    ]
    page = terminal.page(drawn[-2], title="a & b")
    assert "<h1>$ a &amp; b</h1>" in page
    assert re.search(r"<span[^>]*bold[^>]*>two</span> &amp; <span[^>]*>&lt;more&gt;</span>", page)
