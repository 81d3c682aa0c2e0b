"""A sampler or a pruner is one class: here each is made, and a study file names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import optuna
import pytest

from tests.support.studyfiles import in_table, refusal
from trialfleet.checking.mistakes import FieldError
from trialfleet.checking.rules import Real, Whole
from trialfleet.search.judges import History, Judge, Never, Verdict
from trialfleet.search.pruners import PRUNERS, Pruner
from trialfleet.search.samplers import SAMPLERS, Sampler, make_sampler
from trialfleet.study.file import parse
from trialfleet.study.spec import Spec


class BruteForce(Sampler):
    """Every configuration once."""

    name: Literal["brute_force"] = "brute_force"
    at_most: Annotated[int, Whole(1, 100)] = 10

    def check(self, spec: Spec) -> None:
        if spec.search.trials > self.at_most:
            raise FieldError("fewer than search.trials", at="at_most")

    def build(self, spec: Spec, seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.BruteForceSampler(seed=seed)


@dataclass(frozen=True)
class Below(Never):
    """What a threshold decides."""

    lower: float

    def judge(self, curve: Mapping[int, float], passed: int, history: History) -> Verdict:
        return Verdict(prune=curve[max(curve)] < self.lower)


class Threshold(Pruner):
    """Below a score, a trial ends."""

    name: Literal["threshold"] = "threshold"
    lower: Annotated[float, Real(0, 500)] = 10.0

    def check(self, spec: Spec) -> None:
        if spec.task.segments == 1:
            raise FieldError("there is nothing to prune")

    def build(self, spec: Spec, trial_number: int) -> Judge:
        return Below(self.lower)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SAMPLERS, "brute_force", BruteForce)
    monkeypatch.setitem(PRUNERS, "threshold", Threshold)


def test_a_new_sampler_is_chosen_checked_and_built() -> None:
    spec = parse(
        in_table("search", "trials = 4\nsampler = { name = 'brute_force', at_most = 4 }"),
        source="x",
    )
    assert spec.search.sampler == BruteForce(at_most=4)
    assert Spec.from_json(spec.to_json()) == spec
    assert isinstance(make_sampler(spec, 0), optuna.samplers.BruteForceSampler)


def test_a_new_pruner_is_chosen_checked_and_built() -> None:
    spec = parse(in_table("search", "pruner = { name = 'threshold', lower = 20 }"), source="x")
    assert spec.search.pruner == Threshold(lower=20.0)
    assert Spec.from_json(spec.to_json()) == spec
    assert spec.search.pruner.build(spec, 0) == Below(20.0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sampler = 'brute_forse'", "search.sampler: 'brute_forse'; must be one of \"tpe\""),
        ("sampler = { name = 'brute_force', at_most = 0 }", "search.sampler.at_most: 0; must"),
        ("sampler = { name = 'brute_force', most = 0 }", "search.sampler.most: unknown key"),
        ("sampler = 'brute_force'", "search.sampler.at_most: fewer than search.trials"),
        ("pruner = { name = 'threshold', lower = -1 }", "search.pruner.lower: -1; must be a num"),
        ("[task]\neval_every = 30_000\n[search]\npruner = 'threshold'", "search.pruner: there is"),
    ],
)
def test_what_is_refused_of_them(line: str, message: str) -> None:
    table = in_table("search", line).replace("[search]\n[task]", "[task]")
    assert refusal(table).startswith(message)
