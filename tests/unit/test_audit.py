"""Who is audited, and what the audit says."""

from __future__ import annotations

import pytest

from coordinator.audit import compare
from tests.support.studyfiles import in_table
from trialfleet.errors import StudyFileError
from trialfleet.search.judges import Why
from trialfleet.seeds import audited
from trialfleet.study.file import parse


def test_the_share_is_chosen_by_seed_and_number() -> None:
    chosen = [number for number in range(2_000) if audited(7, number, 0.05)]
    assert chosen == [number for number in range(2_000) if audited(7, number, 0.05)]
    assert 70 <= len(chosen) <= 130
    assert chosen != [number for number in range(2_000) if audited(8, number, 0.05)]
    # Who is chosen at a small share is chosen at a larger one.
    assert all(audited(7, number, 0.1) for number in chosen)
    assert not any(audited(7, number, 0.0) for number in range(2_000))
    assert all(audited(7, number, 1.0) for number in range(2_000))


@pytest.mark.parametrize("value", ["-0.1", "1.1", '"half"', "nan"])
def test_only_a_share_is_taken(value: str) -> None:
    with pytest.raises(StudyFileError, match=r"search\.audit"):
        parse(in_table("search", f"audit = {value}"), source="x")


def test_the_audited_are_compared_with_the_completed() -> None:
    found = compare([10.0, 30.0, 20.0], [25.0, 20.0, 31.0, None, 5.0], top=2)
    assert found is not None
    # 20 ties with the second best, which is not better.
    assert (found.trained, found.failed, found.among_top, found.better_than_best) == (4, 1, 2, 1)
    assert found.text == (
        "pruning audit: 4 pruned trials trained to the end, 2 of them among the best 2, "
        "1 better than the best; 1 more failed"
    )
    assert compare([1.0], [], top=1) is None
    fewer = compare([], [1.0], top=3)
    assert fewer is not None
    assert (fewer.among_top, fewer.better_than_best) == (1, 1)


def test_a_reason_tells_value_and_threshold_apart() -> None:
    why = Why(rule="median", step=1250, value=12.3, threshold=40.1)
    assert why.text == "median at step 1250: 12.3 < 40.1"
    close = Why(rule="hyperband", step=5, value=499.99, threshold=500.0, where=" (rung 0)")
    assert close.text == "hyperband (rung 0) at step 5: 499.99 < 500"
