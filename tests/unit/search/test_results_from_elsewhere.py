"""Tables and configurations from elsewhere, as a study reads them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.studies import trivial_spec
from trialfleet.checking.mistakes import FieldError
from trialfleet.errors import SourceError
from trialfleet.search.knobs import SearchSpace
from trialfleet.store.steering import configurations
from trialfleet.store.steering.tables import from_csv
from trialfleet.study.spec import Spec
from worker.trainers.dqn.params import Params

BOUNDS = """
[[constraints]]
measure = "parameters"
at_most = 5_000
[[constraints]]
measure = "spread"
at_most = 10
"""
TWO = '["score", "steps_to_10"]'


def one_row(tmp_path: Path, cells: dict[str, Any], spec: Spec) -> Any:
    """The table's only result."""
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, cells)
        table.writeheader()
        table.writerow(cells)
    (found,) = from_csv(path, spec)
    return found


@pytest.mark.parametrize(
    ("objectives", "cells", "values"),
    [
        ('["score"]', {"value": 4, "score": 5}, [4.0]),
        ('["score"]', {"score": 5, "value.0": 4}, [4.0]),
        ('["steps_to_10"]', {"score": 5, "steps_to_10": 6}, [6.0]),
        # Optuna's data frame, its names for objectives, and its dashboard's table.
        ('["steps_to_10"]', {"value_steps_to_10": 6}, [6.0]),
        (TWO, {"values_1": 6, "values_0": 4}, [4.0, 6.0]),
        (TWO, {"values_steps_to_10": 6, "values_score": 4}, [4.0, 6.0]),
        (TWO, {"Number": 3, "Objective 0": 4, "Objective 1": 6, "Param gamma": 0.95}, [4.0, 6.0]),
        (TWO, {"value.0": 4, "value.1": 6}, [4.0, 6.0]),
        (TWO, {"steps_to_10": 6, "score": 4}, [4.0, 6.0]),
        # What counts by its place must be as many; by its name it may be one of them.
        ('["score"]', {"values_0": 4, "values_1": 6, "score": 8}, [8.0]),
    ],
)
def test_values_are_found_under_the_names_that_people_have_them(
    tmp_path: Path, objectives: str, cells: dict[str, Any], values: list[float]
) -> None:
    found = one_row(tmp_path, cells, trivial_spec(objectives=objectives))
    assert [*found.values] == values
    assert (found.number, found.line) == (cells.get("Number"), 2)
    assert found.params == ({"gamma": "0.95"} if "Param gamma" in cells else {})


@pytest.mark.parametrize(
    ("objectives", "cells", "said"),
    [
        (TWO, {"value": 4}, "values of 1 objective, and the study has 2 objectives: score:max, "),
        (TWO, {"value.0": 4, "value.1": 6, "value.2": 1}, "values of 3 objectives, and the study"),
        ('["score"]', {"values_0": 4, "values_1": 6}, "values of 2 objectives, and the study has"),
        (TWO, {"score": 4}, "no columns `value.0`, `value.1` and so on, nor `score`, `steps_to_10"),
        ('["steps_to_10"]', {"score": 4}, "no column `value` or `steps_to_10`, or no rows"),
        (TWO, {"value.0": 4, "value.1": ""}, "line 2: value.1 is '', not a number"),
    ],
)
def test_other_objectives_are_refused(
    tmp_path: Path, objectives: str, cells: dict[str, Any], said: str
) -> None:
    with pytest.raises(SourceError) as refused:
        one_row(tmp_path, cells, trivial_spec(objectives=objectives))
    assert said in f"{refused.value}"


@pytest.mark.parametrize(
    ("cells", "measured", "excess"),
    [
        ({"constraint.parameters": 58, "spread": 3}, {"parameters": 58.0, "spread": 3.0}, {}),
        ({"user_attrs_parameters": 58, "spread <= 10": 3}, {"parameters": 58, "spread": 3}, {}),
        # Of a study of ours with other bounds, as Optuna's data frame and dashboard write it.
        (
            {
                "user_attrs_constraints": "{'parameters <= 6000': 58.0, 'spread <= 1': None}",
                "system_attrs_constraints": "[-0.9, 2.0]",
            },
            {"parameters": 58.0},
            {},
        ),
        ({"UserAttribute constraints": "{'spread <= 1': 3}"}, {"spread": 3.0}, {}),
        ({"system_attrs_constraints": "(-1.0, 2.0)"}, {}, {"0": -1.0, "1": 2.0}),
        ({"system_attrs_constraints:spread": 2}, {}, {"spread": 2.0}),
        ({"system_attrs_constraints": "[" * 9_000}, {}, {}),
    ],
)
def test_constraints_are_found_as_well(
    tmp_path: Path, cells: dict[str, Any], measured: dict[str, float], excess: dict[str, float]
) -> None:
    found = one_row(tmp_path, {"value": 1, **cells}, trivial_spec(more=BOUNDS))
    assert (found.measured, found.excess) == (measured, excess)


def test_values_are_compared_as_the_study_file_has_them() -> None:
    knobs = SearchSpace.read(
        {
            "net_arch": {"choices": [[32], [64, 64]]},
            "batch_size": {"low": 32, "high": 64},
            "double_q": {"choices": [True, False]},
            "loss": {"choices": ["mse", "huber"]},
        },
        Params,
    )
    of_a_table = {"net_arch": "[64, 64]", "batch_size": "64.0", "double_q": "True", "loss": "mse"}
    of_optuna = {"net_arch": "[64, 64]", "batch_size": 64, "double_q": True, "loss": "mse"}
    for params in (of_a_table, of_optuna, json.loads(json.dumps(of_optuna))):
        assert configurations.read(params, knobs) == {**of_optuna, "net_arch": (64, 64)}


CONDITIONAL = {
    "double_q": {"choices": [True, False]},
    "exploration_final_eps": {"low": 0.0, "high": 0.1, "when": {"double_q": True}},
    "net_arch": {"layers": {"low": 1, "high": 3}, "width": {"choices": [32, 64]}},
}


@pytest.mark.parametrize(
    ("params", "read"),
    [
        (
            {"double_q": False, "exploration_final_eps": "0.05", "net_arch": "[64, 32]"},
            {"double_q": False, "net_arch": (64, 32)},
        ),
        (
            {
                "net_arch.layers": "2.0",
                "net_arch.width_1": 64.0,
                "net_arch.width_2": "32",
                "exploration_final_eps": 0.05,
                "double_q": "true",
            },
            {"double_q": True, "exploration_final_eps": 0.05, "net_arch": (64, 32)},
        ),
        ({"double_q": True, "net_arch": [32]}, "exploration_final_eps: is missing"),
        ({"double_q": False, "net_arch.layers": 2, "net_arch.width_1": 32}, "width_2: is missing"),
        ({"double_q": False, "net_arch.layers": 9, "net_arch.width_1": 32}, "net_arch: 9; must be"),
        ({"double_q": False, "net_arch": [32, 16]}, "net_arch.width: 16; must be one of its"),
        ({"double_q": False}, "net_arch.layers: is missing"),
        ({"double_q": "maybe", "net_arch": [32]}, "double_q: 'maybe'; must be one of its choices"),
    ],
)
def test_conditional_spaces_need_what_exists(params: dict[str, Any], read: Any) -> None:
    knobs = SearchSpace.read(CONDITIONAL, Params)
    if isinstance(read, dict):
        assert configurations.read(params, knobs) == read
    else:
        with pytest.raises(FieldError) as refused:
            configurations.read(params, knobs)
        assert read in f"{refused.value.at}: {refused.value.text}"
