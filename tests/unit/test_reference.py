"""docs/reference.md: its tables are those of the code, and nothing of the code is left out."""

from __future__ import annotations

import dataclasses
import inspect
import re

import pytest
from stable_baselines3 import DQN

from docs import reference
from trialfleet.study.spec import Spec
from worker.trainers.dqn.params import Params

PAGE = reference.PAGE.read_text(encoding="utf-8")


def test_the_page_is_what_the_code_says() -> None:
    """If this fails: `make reference`."""
    assert reference.written(PAGE) == PAGE


@pytest.mark.parametrize("name", reference.TABLES)
def test_every_table_is_on_the_page_and_no_cell_is_empty(name: str) -> None:
    table = reference.TABLES[name]()
    assert f"<!-- table: {name} -->\n{table}\n" in f"{PAGE}\n"
    for line in table.splitlines()[2:]:
        option, said, *_ = [cell.strip() for cell in line.strip("|").split("|")][-4:]
        assert said, line
        assert option or "no options" in line, line


def test_every_field_of_a_study_file_has_a_table_or_a_section() -> None:
    for name in Spec.model_fields:
        assert f"\n| `{name}` |" in PAGE or f"\n### {name}\n" in PAGE, name


def test_the_table_shows_where_defaults_differ_from_stable_baselines3s() -> None:
    theirs = inspect.signature(DQN).parameters
    rows = dict(line.split(" | ", 1) for line in reference.dqn().splitlines()[2:])
    for field in dataclasses.fields(Params):
        ours, other = rows[f"| `{field.name}`"].rstrip(" |").split(" | ")[-2:]
        if field.name in theirs:
            default = theirs[field.name].default
            assert (ours == other) == (field.default == default), field.name
            assert float(other.strip("`")) == default
    differ = {
        field.name
        for field in dataclasses.fields(Params)
        if field.name in theirs and field.default != theirs[field.name].default
    }
    [said] = re.findall(r"Not all defaults are its own: (.+?) differ", PAGE)
    assert set(re.findall(r"`(\w+)`", said)) == differ
    assert Params().double_q
    assert "Double Q-learning is on" in PAGE


def test_what_is_said_of_arguments_that_stable_baselines3_does_not_have_is_true() -> None:
    model = DQN("MlpPolicy", "CartPole-v1", buffer_size=100)
    widths = [layer.out_features for layer in model.q_net.q_net if hasattr(layer, "out_features")]
    assert widths[:-1] == [64, 64]
    source = inspect.getsource(DQN.train)
    assert "smooth_l1_loss" in source
    assert "max(dim=1)" in source  # the target network both picks and values the next action
