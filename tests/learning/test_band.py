"""The learner's figures on a short run lie in the stored band, and no broken learner's do.

The band and how to make it anew: tests/learning/band.py.
"""

from __future__ import annotations

import pytest

from tests.learning.band import AGENTS, figures, outside

pytestmark = pytest.mark.learning

# None of these was there when the band was made.
SEEDS = range(10_000, 10_000 + AGENTS)


def test_the_learner_stays_in_its_band() -> None:
    found = figures(SEEDS)
    assert not outside(found), found


@pytest.mark.parametrize(
    ("mistake", "seen_in"),
    [
        ("epsilon frozen at 1", "doors opened at the end"),
        ("terminal mask dropped", "value of the wrong action"),
        ("target never updated", "value of the right action"),
    ],
    indirect=["mistake"],
)
def test_a_broken_learner_falls_out_of_the_band(mistake: str, seen_in: str) -> None:
    """Catches each of these mistakes, in the figure that it cannot but change."""
    found = figures(SEEDS)
    print(mistake, found)
    assert seen_in in outside(found)
