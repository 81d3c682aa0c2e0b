"""How likely a finalist is to be the best."""

from __future__ import annotations

import math

import numpy as np
import pytest

from coordinator.race.chances import Known, chances


def known(*scores: float, estimate: float | None = None, searched: int = 4) -> Known:
    mean = float(np.mean(scores)) if estimate is None else estimate
    return Known(estimate=mean, searched=searched, scores=scores)


def test_of_two_it_is_the_probability_that_their_difference_is_positive() -> None:
    a, b = known(12.0, 8.0, 11.0, 13.0), known(10.0, 7.0, 9.0, 10.0)
    # Variances 14/3 and 2, their mean 10/3 counts as four seeds beside the three of each's own.
    of_a, of_b = (3 * 14 / 3 + 4 * 10 / 3) / 7, (3 * 2 + 4 * 10 / 3) / 7
    z = (11.0 - 9.0) / math.sqrt((of_a + of_b) / 8)
    expected = 0.5 * (1 + math.erf(z / math.sqrt(2)))
    assert chances([a, b]) == pytest.approx([expected, 1 - expected], abs=1e-3)


def test_of_many_it_is_how_often_each_is_the_best_of_all_that_are_drawn() -> None:
    rng = np.random.default_rng(0)
    finalists = [known(*rng.normal(mean, 5, 6)) for mean in (100, 103, 99, 104, 80)]
    own = np.array([np.var(each.scores, ddof=1) for each in finalists])
    deviations = np.sqrt((5 * own + 4 * own.mean()) / 9 / 10)
    drawn = rng.normal([each.mean for each in finalists], deviations, (400_000, 5))
    shares = np.bincount(drawn.argmax(axis=1), minlength=5) / len(drawn)
    assert chances(finalists) == pytest.approx(shares.tolist(), abs=4e-3)


def test_what_the_search_found_counts_as_its_seeds_do() -> None:
    lucky = known(10.0, 12.0, 8.0, 10.0, estimate=30.0, searched=4)
    assert lucky.mean == 20.0
    assert known(10.0, 12.0, estimate=30.0, searched=1).mean == pytest.approx(52 / 3)
    even = known(10.0, 12.0, 8.0, 10.0, estimate=10.0)
    found = chances([lucky, even])
    assert found is not None
    assert found[0] > 0.9


@pytest.mark.parametrize(
    ("finalists", "expected"),
    [
        pytest.param([known(1.0, 1.0)] * 4, [0.25] * 4, id="nothing differs"),
        pytest.param([known(2.0, 2.0), known(1.0, 1.0)], [1.0, 0.0], id="no seeds differ"),
        pytest.param([known(0.0, 0.0), known(0.0, 0.0)], [0.5, 0.5], id="all is 0"),
        pytest.param([known(3.0), known(1.0)], None, id="one seed says nothing of variance"),
    ],
)
def test_where_there_is_no_variance(finalists: list[Known], expected: list[float] | None) -> None:
    assert chances(finalists) == (expected and pytest.approx(expected))


def test_order_and_scale_make_no_difference() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(0, 1, (4, 5))
    found = chances([known(*each) for each in scores])
    assert found is not None
    assert chances([known(*each) for each in scores[::-1]]) == found[::-1]
    assert chances([known(*(each * 1e6 + 3e7)) for each in scores]) == pytest.approx(
        found, abs=1e-5
    )
    assert sum(found) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("sentinel", [-1e100, -1e160, -1e300, -1.7e308])
def test_a_seed_that_diverged_makes_nobody_else_the_worse(sentinel: float) -> None:
    found = chances([known(490.0, 500.0), known(480.0, 470.0), known(sentinel, 500.0)])
    assert found is not None
    assert all(0.0 <= each <= 1.0 for each in found)
    assert found[2] == min(found)
    assert sum(found) == pytest.approx(1.0, abs=1e-5)


def test_the_largest_scores_have_a_mean() -> None:
    assert known(1.7e308, 1.7e308, estimate=1.7e308).mean == pytest.approx(1.7e308)
