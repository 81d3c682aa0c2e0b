"""Stored studies of earlier versions mean what they meant."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from tests.support.studyfiles import EXAMPLE
from trialfleet.errors import VersionMismatchError
from trialfleet.study import formats
from trialfleet.study.differences import differences
from trialfleet.study.file import parse
from trialfleet.study.spec import Spec
from worker.trainers.dqn.params import Params

# To the letter what 0.1.0 stored of EXAMPLE.
OF_0_1_0 = (
    '{"agent":{"batch_size":{"high":128,"log":false,"low":32,"step":32},"buffer_size":50000,'
    '"double_q":{"choices":[true,false]},"exploration_final_eps":0.05,"exploration_fraction":0.2,'
    '"exploration_initial_eps":1.0,"gamma":{"high":0.99,"log":false,"low":0.9,"step":0.03},'
    '"gradient_steps":1,"learning_rate":{"high":0.01,"log":true,"low":0.0001},'
    '"learning_starts":1000,"loss":"mse","max_grad_norm":10.0,"net_arch":{"choices":[[32],'
    '[64,64]]},"precision":"fp32","target_update_interval":250,"tau":1.0,"train_freq":4},'
    '"final":{"episodes":150,"seeds":10,"top":2},"name":"example","search":{"max_attempts":3,'
    '"max_failures":10,"pruner":{"n_min_trials":1,"n_startup_trials":5,"n_warmup_steps":4000,'
    '"name":"median"},"sampler":{"constant_liar":true,"group":false,"multivariate":false,'
    '"n_ei_candidates":24,"n_startup_trials":10,"name":"tpe"},"trials":20},"seed":3,'
    '"task":{"env":"CartPole-v1","eval_episodes":20,"eval_every":2000,"keep":"best",'
    '"score_episodes":50,"seeds":4,"train_steps":20000}}'
)


def test_what_0_1_0_stored_is_its_study_file() -> None:
    # Its final stage gave all seeds to all finalists, and confirmed nobody.
    spec = parse(f"{EXAMPLE}race = false\nseeds = 10\nconfirm = 0", source="x")
    assert Spec.from_json(OF_0_1_0) == spec
    assert differences(Spec.from_json(OF_0_1_0), spec) == []


def test_a_later_version_with_a_new_default_reads_what_was_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = parse('name = "x"', source="x").to_json()
    [gamma] = [each for each in dataclasses.fields(Params) if each.name == "gamma"]
    monkeypatch.setattr(gamma, "default", 0.5)
    assert Spec(name="x").agent["gamma"] == 0.5
    assert Spec.from_json(stored).agent["gamma"] == 0.99


def test_a_later_version_with_a_new_field_reads_what_was_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As if `keep` had come with the next format, and by default another thing than before.
    stored = json.loads(parse('name = "x"', source="x").to_json())
    del stored["task"]["keep"]

    def kept_the_last(tables: dict[str, Any]) -> dict[str, Any]:
        return {**tables, "task": {**tables["task"], "keep": "last"}}

    monkeypatch.setattr(formats, "FORMAT", formats.FORMAT + 1)
    monkeypatch.setattr(formats, "_STEPS", {**formats._STEPS, formats.FORMAT - 1: kept_the_last})
    assert Spec.from_json(json.dumps(stored)).task.keep == "last"
    assert json.loads(Spec(name="x").to_json())["format"] == formats.FORMAT


def test_each_format_leads_to_the_next() -> None:
    assert list(formats._STEPS) == list(range(1, formats.FORMAT))


def test_a_later_format_is_refused_with_both_numbers() -> None:
    stored = json.dumps({**json.loads(OF_0_1_0), "format": formats.FORMAT + 1})
    numbers = rf"format {formats.FORMAT + 1}, this version reads .* to {formats.FORMAT}"
    with pytest.raises(VersionMismatchError, match=numbers):
        Spec.from_json(stored)
