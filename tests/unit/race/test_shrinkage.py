"""Finalists are ranked by what their scores let expect, not by the luckiest."""

from __future__ import annotations

import numpy as np
import pytest

from coordinator.race.shrinkage import shrunken


def test_an_estimate_that_was_computed_by_hand() -> None:
    # Means 10, 20, 30; own variances 2, 8, 2, pooled 4, moderated 3, 6, 3, of the means 1.5, 3, 1.5
    # tau² = 100 - 2 = 98.
    found = shrunken([[9.0, 11.0], [18.0, 22.0], [29.0, 31.0]])
    weights = np.array([1 / 99.5, 1 / 101, 1 / 99.5])
    center = float(weights @ [10, 20, 30] / weights.sum())
    assert found == pytest.approx(
        [center + 98 / 99.5 * (10 - center), center, center + 98 / 99.5 * (30 - center)]
    )


def test_of_two_equal_means_the_steadier_one_is_ahead() -> None:
    steady, shaky, low = [90.0, 90.0, 90.0, 90.0], [60.0, 120.0, 120.0, 60.0], [10.0] * 4
    found = shrunken([shaky, steady, low, [50.0, 52.0, 48.0, 50.0]])
    assert found[1] > found[0] > found[3] > found[2]


def test_trials_that_differ_by_no_more_than_their_seeds_are_all_alike() -> None:
    found = shrunken([[0.0, 100.0], [10.0, 90.0], [5.0, 99.0], [1.0, 97.0]])
    assert max(found) == pytest.approx(min(found))


@pytest.mark.parametrize(
    "scores",
    [
        pytest.param([[3.0], [1.0], [2.0]], id="one seed each says nothing of variance"),
        pytest.param([[3.0, 5.0], [1.0, 1.0]], id="two trials say nothing of the study"),
        pytest.param([[3.0, 3.0], [1.0, 1.0], [1.0, 1.0]], id="seeds that never differ"),
        pytest.param([[2.0, 2.0]] * 4, id="nothing differs"),
    ],
)
def test_means_stay_where_nothing_is_known_of_the_noise(scores: list[list[float]]) -> None:
    assert shrunken(scores) == pytest.approx([np.mean(each) for each in scores])


def test_it_is_nearer_to_the_truth_than_the_means_are() -> None:
    rng = np.random.default_rng(0)
    better = 0
    for _ in range(50):
        truth = rng.normal(0, 1, 40)
        scores = truth[:, None] + rng.normal(0, 2, (40, 4))
        error = np.mean((np.array(shrunken(scores.tolist())) - truth) ** 2)
        better += error < np.mean((scores.mean(axis=1) - truth) ** 2)
    assert better >= 48


@pytest.mark.parametrize("sentinel", [-1e4, -1e6, -1e9, -1e100, -1e160, -1e300, -1.7e308])
@pytest.mark.parametrize("everywhere", [False, True])
def test_a_score_that_stands_for_a_failure_does_not_hide_which_trial_is_good(
    sentinel: float, everywhere: bool
) -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(200, 80, 60)
    scores = (truth[:, None] + rng.normal(0, 50, (60, 4))).tolist()
    alone = shrunken(scores)
    diverged = [sentinel] * 4 if everywhere else [sentinel, 210.0, 190.0, 230.0]
    found = shrunken([*scores[:7], diverged, *scores[7:]])
    assert found.pop(7) == pytest.approx(sum(each / 4 for each in diverged))
    assert found == alone, "to the bit, as if it had not been there"


def test_most_of_a_search_may_have_diverged() -> None:
    found = shrunken([[-1e100] * 4] * 70 + [[400.0] * 4, [500.0] * 4, [450.0, 460.0, 440.0, 450.0]])
    assert found[71] > found[72] > found[70] > found[0]


@pytest.mark.parametrize("extreme", [1e16, 1e160, 1.7e308])
def test_scores_without_digits_left_stay_what_they_are(extreme: float) -> None:
    found = shrunken([[extreme] * 4, [-extreme] * 4, [1.0] * 4, [2.0] * 4, [0.0] * 4])
    assert found[:4] == [extreme, -extreme, 1.0, 2.0]
