from __future__ import annotations

import numpy as np
import pytest

from coordinator.intervals import share_at_least


@pytest.mark.parametrize(
    ("solved", "seeds", "share"),
    [
        # All of n: the n-th root of 0.05.
        (10, 10, 0.05**0.1),
        (30, 30, 0.05 ** (1 / 30)),
        (1, 1, 0.05),
        (0, 10, 0.0),
        # Tables of Clopper and Pearson, one-sided 95%.
        (9, 10, 0.6058),
        (28, 30, 0.8047),
        (8, 10, 0.4931),
    ],
)
def test_bounds_of_the_tables(solved: int, seeds: int, share: float) -> None:
    assert share_at_least(solved, seeds) == pytest.approx(share, abs=1e-4)


def test_it_holds_in_19_of_20_studies() -> None:
    rng = np.random.default_rng(0)
    for share in (0.6, 0.9, 0.97):
        solved = rng.binomial(20, share, size=4_000)
        bounds = {int(each): share_at_least(int(each), 20) for each in set(solved.tolist())}
        wrong = np.mean([bounds[int(each)] > share for each in solved])
        assert wrong <= 0.05 + 3 * (0.05 * 0.95 / 4_000) ** 0.5


@pytest.mark.parametrize(("solved", "seeds"), [(5, 4), (-1, 4), (0, 0)])
def test_what_cannot_be_is_refused(solved: int, seeds: int) -> None:
    with pytest.raises(ValueError, match="seeds"):
        share_at_least(solved, seeds)
