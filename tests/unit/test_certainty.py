"""What is said of an interval wherever one is printed, and what earlier versions stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from coordinator import judged
from coordinator.certainty import certainty, certainty_of_row, ends_told, footnote
from coordinator.finalists import Finalist
from coordinator.fresh import fresh
from tests.support.studies import trivial_spec
from tests.support.told import told
from trialfleet.study.measures import Objective
from trialfleet.study.returns import Returns
from trialfleet.study.spec import Spec

CARTPOLE = Returns(low=0.0, high=500.0)
NORMAL = [240.0, 250.0, 255.0, 260.0, 262.0, 270.0]


def test_with_bounds_the_interval_holds_whatever_the_distribution() -> None:
    found = certainty([500.0, 150.0] * 6, CARTPOLE)
    told = found.told(like=325.0)
    assert told.startswith("95% interval ")
    assert told.endswith(", whatever the distribution of returns between 0 and 500")
    assert found.caveat(like=325.0) == ""  # Student's is about as long


def test_a_much_longer_one_says_what_the_difference_is_about() -> None:
    found = certainty(NORMAL, CARTPOLE)
    assert found.interval is not None
    assert found.student is not None
    assert found.interval.width > 3 * found.student.width
    caveat = found.caveat(like=250.0)
    assert ends_told((found.student.low, found.student.high), like=250.0) in caveat
    assert "too rare to be among 6 seeds" in caveat


def test_equal_scores_are_no_point() -> None:
    found = certainty([500.0] * 30, CARTPOLE)
    assert found.told(like=500.0).startswith("95% interval 436.8 … 500.0")
    assert "all 30 seeds came to the same" in found.caveat(like=500.0)


def test_students_is_called_by_its_name_and_never_leaves_the_bounds() -> None:
    alone = certainty(NORMAL, None)
    assert "(Student's t), if the scores of seeds are normal" in alone.told(like=250.0)
    assert "rare failure" in alone.caveat(like=250.0)
    beside = certainty([500.0] * 11 + [300.0], CARTPOLE).student
    assert beside is not None
    assert beside.high == 500.0
    blocks = certainty(NORMAL, None, sequential=True)
    assert "(Student's t, sequential)" in blocks.told(like=250.0)
    assert alone.interval is not None
    assert blocks.interval is not None
    assert blocks.interval.width > alone.interval.width


@pytest.mark.parametrize(
    ("scores", "words"),
    [([1.0, 2.0], "2 seeds are too few"), ([7.0] * 8, "all seeds came to the same")],
)
def test_where_there_is_no_interval_it_says_why(scores: list[float], words: str) -> None:
    found = certainty(scores, None)
    assert found.ends is None
    assert words in found.told(like=1.0)
    assert "[task] returns" in found.caveat(like=1.0)
    assert ends_told(found.ends, like=1.0) == "–"


def test_intervals_of_finalists_hold_all_at_once() -> None:
    """Of three finalists of one law, the best mean's interval holds, too."""
    together = certainty(NORMAL, CARTPOLE, together=3)
    alone = certainty(NORMAL, CARTPOLE)
    assert together.interval is not None
    assert alone.interval is not None
    assert together.interval.level == pytest.approx(1 - 0.05 / 3)
    assert together.interval.width > alone.interval.width
    assert together.told(like=250.0).endswith("for all 3 finalists at once")
    rng = np.random.default_rng(0)
    missed = {1: 0, 8: 0}
    for _ in range(300):
        best = max(rng.normal(0.0, 1.0, (8, 10)).tolist(), key=np.mean)
        for several in missed:
            ends = certainty(best, None, together=several).ends
            assert ends is not None
            missed[several] += not ends[0] <= 0.0 <= ends[1]
    assert missed[8] / 300 <= 0.05
    assert missed[1] / 300 > 0.1


def test_a_result_keeps_all_of_it() -> None:
    for found in (
        certainty(NORMAL, CARTPOLE, together=3),
        certainty(NORMAL, None),
        certainty([1.0, 2.0], None),
    ):
        row = {**found.as_row(), "scores": [0.0] * found.seeds}
        read = certainty_of_row(row)
        assert (read.told(like=9.0), read.caveat(like=9.0)) == (
            found.told(like=9.0),
            found.caveat(like=9.0),
        )


def test_an_interval_of_an_earlier_version_is_called_what_it_is() -> None:
    row: dict[str, Any] = {"interval": [281.4, 474.8], "scores": [388.7] * 8, "failures": []}
    found = certainty_of_row(row)
    assert found.told(like=388.7) == (
        "95% interval 281.4 … 474.8 (percentile bootstrap of an earlier version: too short)"
    )
    assert found.caveat(like=388.7) == ""
    assert "earlier version" in footnote([row])
    result = {"objectives": ["auc:max"], "over_seeds": "mean"}
    judged_by = judged.told(result, {"values": [3.0], "intervals": [[2.0, 4.0]]})
    assert (
        "[95% interval (percentile bootstrap of an earlier version: too short) 2.0 … 4.0]"
        in judged_by
    )


def test_the_footnote_of_a_table_says_what_its_intervals_need() -> None:
    def row(scores: list[float], returns: Returns | None) -> dict[str, Any]:
        found = certainty(scores, returns, together=2)
        return {**found.as_row(), "scores": scores, "failures": []}

    assert footnote([row(NORMAL, CARTPOLE)] * 2) == (
        "The finalists' intervals hold whatever the distribution of returns between 0 and 500, "
        "all 2 at once."
    )
    assert "(Student's t), all 2 at once" in footnote([row(NORMAL, None)])
    assert "There are no intervals" in footnote([row([1.0, 2.0], None), {"failures": ["x"]}])


@pytest.mark.parametrize(
    ("objective", "over_seeds", "method", "ends"),
    [
        ("score", "mean", "bounded", None),
        ("auc", "mean", "bounded", None),
        ("steps_to_475", "mean", "bounded", None),
        ("score", "median", "median", (1.0, 8.0)),
        ("score", "iqm", None, None),
        ("score", "worst", None, None),
    ],
)
def test_every_objective_has_an_interval_that_holds_or_none(
    objective: str, over_seeds: str, method: str | None, ends: tuple[float, float] | None
) -> None:
    row = _fixed(objective, over_seeds)
    assert row["interval_methods"] == [method]
    (interval,) = row["intervals"]
    assert (interval is None) == (method is None)
    if ends is not None:
        assert tuple(interval) == ends


def test_a_median_has_an_interval_from_as_many_seeds_as_its_finalists_ask_for() -> None:
    """First and last of eight values miss the median in 1 of 128 cases: enough for six of them."""
    assert stats.binom.cdf(0, 8, 0.5) * 2 < 0.05 / 6
    assert _fixed("score", "median", finalists=6)["interval_methods"] == ["median"]
    assert _fixed("score", "median", finalists=7)["interval_methods"] == [None]


def _fixed(objective: str, over_seeds: str, *, finalists: int = 3) -> dict[str, Any]:
    """The row of a finalist whose eight seeds scored 1 to 8."""
    given = trivial_spec(race=False)
    search = given.search.model_copy(
        update={"objectives": (Objective.parse(objective),), "over_seeds": over_seeds}
    )
    task = given.task.model_copy(update={"returns": CARTPOLE})
    spec = given.model_copy(update={"search": search, "task": task})
    assert isinstance(spec, Spec)
    source = told().search[0]
    final = told().final[0]
    scores = [float(score) for score in range(1, 9)]
    final.user_attrs.update(
        scores=scores,
        seeds=[*range(8)],
        measures={"auc": scores, "steps_to_475": scores},
    )
    curves = {final.number: [(1_000, scores)]}
    finalist = Finalist(rank=0, number=source.number, values=source.values, trial=source)
    row = fresh(finalist, [final], curves, spec, finalists=finalists).row
    assert row["interval_method"] == "bounded"
    return row
