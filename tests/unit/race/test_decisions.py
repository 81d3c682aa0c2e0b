"""Who leaves the race, who waits, and when it is settled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from coordinator.race.decisions import Decision, Racer, Rules, decide, winner_of

Draw = Callable[[np.random.Generator, int, int], Sequence[float]]
Seeds = Callable[[np.random.Generator, int], Sequence[float]]


def rules(**fields: Any) -> Rules:
    given = {"finalists": 4, "seeds": 4, "blocks": 4, "error": 0.05, **fields}
    return Rules(**given)


def racer(rank: int, scores: Sequence[float], area: float = 0.0, **fields: Any) -> Racer:
    """One whose search said the same as the race does."""
    estimate = float(np.mean(scores)) if len(scores) else 0.0
    given = {"estimate": estimate, "searched": 4, **fields}
    return Racer(rank=rank, scores=scores, area=area, **given)


def verdicts(decisions: Sequence[Decision]) -> dict[int, str]:
    return {each.finalist: each.verdict for each in decisions}


def raced(draw: Draw, given: Rules, seed: int) -> tuple[int | None, set[int], int]:
    """A whole race: who won, who was removed, and how many seeds it took."""
    rng = np.random.default_rng(seed)
    scores: dict[int, list[float]] = {rank: [] for rank in range(given.finalists)}
    estimates = {rank: float(np.mean(draw(rng, rank, 4))) for rank in scores}
    standing = training = set(scores)
    removed: set[int] = set()
    while True:
        for rank in sorted(training):
            scores[rank] += draw(rng, rank, given.seeds)
        racers = [racer(rank, scores[rank], estimate=estimates[rank]) for rank in sorted(standing)]
        decided = decide(racers, given)
        told = verdicts(decided)
        removed |= {rank for rank, verdict in told.items() if verdict == "out"}
        if winner_of(decided) is not None:
            return winner_of(decided), removed, sum(map(len, scores.values()))
        training = {rank for rank, verdict in told.items() if verdict == "stays"}
        standing = training | {rank for rank, verdict in told.items() if verdict == "waits"}
        assert training, "a race that is not settled goes on"


def skewed(truth: float) -> Seeds:
    """Most seeds come near to what is possible, some to little."""
    return lambda rng, n: [float(each) for each in truth + 30 - rng.exponential(30, n)]


def normal(truth: float) -> Seeds:
    return lambda rng, n: [float(each) for each in rng.normal(truth, 30, n)]


@pytest.mark.parametrize("seeds_of", [skewed, normal])
def test_the_best_is_removed_no_more_often_than_stated(
    seeds_of: Callable[[float], Seeds],
) -> None:
    given, races = rules(finalists=6, error=0.3, blocks=5), 150
    wrong, some = 0, 0
    for seed in range(races):
        truths = np.random.default_rng([seed, 9]).normal(400, 15, 6)
        drawn = [seeds_of(truth) for truth in truths]

        def draw(
            rng: np.random.Generator, rank: int, n: int, drawn: list[Seeds] = drawn
        ) -> Sequence[float]:
            return drawn[rank](rng, n)

        _, removed, _ = raced(draw, given, seed)
        wrong += int(truths.argmax()) in removed
        some += bool(removed)
    assert wrong / races <= 0.3
    assert some / races > 0.8, "nor is it so strict that hardly anybody would ever leave"


def test_a_clear_difference_ends_the_race_early_and_rightly() -> None:
    def draw(rng: np.random.Generator, rank: int, n: int) -> list[float]:
        return [float(each) for each in rng.normal(400 if rank == 2 else 300, 20, n)]

    given = rules()
    found = [raced(draw, given, seed) for seed in range(40)]
    assert [winner for winner, _, _ in found] == [2] * 40
    # Half of what all blocks of all finalists would be, at most.
    assert max(seeds for _, _, seeds in found) <= 32


def test_the_error_is_shared_by_those_who_could_be_removed_wrongly() -> None:
    assert rules(finalists=5, error=0.2).level == pytest.approx(0.05)
    assert rules(finalists=1, error=0.2).level == 0.2


def test_one_that_can_hardly_be_the_best_leaves() -> None:
    steady = [400.0 + each for each in range(8)]
    shaky = [390.0, 410.0, 402.0, 380.0, 405.0, 411.0, 370.0, 412.0]
    bad = [100.0 + each for each in range(8)]
    decided = decide([racer(0, bad), racer(1, steady), racer(2, shaky)], rules(finalists=3))
    assert verdicts(decided) == {0: "out", 1: "stays", 2: "stays"}
    out = next(each for each in decided if each.finalist == 0)
    assert (out.p, out.level) == (0.0, 0.025)
    assert (out.seeds, out.mean) == (8, 103.5)
    assert out.why == "the best with a probability of 0.0% only"
    left = {each.finalist: each.p for each in decided if each.finalist}
    assert left[1] is not None
    assert left[2] is not None
    assert left[1] > 0.5 > left[2] > 0.025
    assert left[1] + left[2] == pytest.approx(1.0, abs=1e-5)


def test_of_two_that_are_alike_somebody_stays_whatever_error_is_allowed() -> None:
    alike = [racer(rank, [1.0, 5.0, 3.0, 4.0]) for rank in range(2)]
    decided = decide(alike, rules(finalists=2, error=0.5))
    assert [each.p for each in decided] == [0.5, 0.5]
    assert winner_of(decided) == 0


def test_who_was_only_lucky_in_the_search_is_found_out() -> None:
    lucky = racer(0, [300.0, 310.0, 290.0, 300.0] * 5, estimate=400.0)
    other = racer(1, [340.0, 350.0, 330.0, 340.0] * 5, estimate=380.0)
    assert winner_of(decide([lucky, other], rules(finalists=2, blocks=5))) == 1


def test_the_last_block_is_won_by_the_best_mean() -> None:
    decided = decide(
        [racer(0, [1.0, 4.0]), racer(1, [3.0, 4.0]), racer(2, [2.0, 3.5])],
        rules(seeds=2, blocks=1, finalists=3),
    )
    assert verdicts(decided) == {1: "wins", 2: "behind", 0: "behind"}


def test_nobody_leaves_early_who_has_all_its_seeds() -> None:
    racers = [racer(0, [9.0, 9.1]), racer(1, [1.0, 1.1])]
    assert verdicts(decide(racers, rules(seeds=2, blocks=1))) == {0: "wins", 1: "behind"}
    assert verdicts(decide(racers, rules(seeds=2, blocks=2))) == {0: "wins", 1: "out"}


def test_what_the_search_knew_counts_at_the_end() -> None:
    last = rules(seeds=4, blocks=1, finalists=2)
    known = racer(0, [90.0, 110.0, 95.0, 105.0], estimate=120.0)
    ahead = racer(1, [91.0, 111.0, 96.0, 106.0], estimate=110.0)
    assert winner_of(decide([known, ahead], last)) == 0


def test_equal_means_are_told_apart_by_area_then_by_rank() -> None:
    last = rules(seeds=2, blocks=1)
    decided = decide(
        [racer(0, [1.0, 3.0], 5.0), racer(1, [0.5, 3.5], 6.0), racer(2, [0.0, 4.0], 6.0)], last
    )
    assert winner_of(decided) == 1


def test_one_that_is_left_alone_wins_at_once() -> None:
    decided = decide([racer(0, [1.0] * 4), racer(1, [9.0] * 4, failures=["it burned"])], rules())
    assert verdicts(decided) == {0: "wins", 1: "failed"}
    assert decided[0].why == "it burned"


def test_with_nobody_left_nobody_wins() -> None:
    decided = decide([racer(0, [], failures=["it burned"])], rules())
    assert winner_of(decided) is None
    assert verdicts(decided) == {0: "failed"}


CAP = [500.0] * 4


def test_at_a_capped_score_the_others_wait_for_those_that_reach_it_with_every_seed() -> None:
    decided = decide(
        [racer(0, [500.0, 500.0, 496.0, 500.0]), racer(1, CAP), racer(2, [500.0, 500.0, 500, 80])],
        rules(),
    )
    assert verdicts(decided) == {0: "stays", 1: "stays", 2: "waits"}


def test_nobody_at_the_cap_leaves_whatever_the_search_had_said_of_it() -> None:
    # No seed differs from another, so the search's luck alone would decide.
    decided = decide([racer(0, CAP, estimate=499.0), racer(1, CAP, estimate=480.0)], rules())
    assert verdicts(decided) == {0: "stays", 1: "stays"}
    assert [each.p for each in decided] == [None, None]


def test_who_waited_comes_back_when_those_at_the_cap_fail() -> None:
    decided = decide(
        [racer(0, [*CAP, 500.0, 90.0, 500.0, 500.0]), racer(1, [500.0, 500.0, 500.0, 80.0])],
        rules(),
    )
    assert verdicts(decided) == {0: "waits", 1: "stays"}


def test_two_that_learn_fastest_go_on_at_the_cap() -> None:
    areas = [300.0, 320.0, 310.0, 290.0]
    decided = decide([racer(rank, CAP, area) for rank, area in enumerate(areas)], rules())
    assert verdicts(decided) == {0: "waits", 1: "stays", 2: "stays", 3: "waits"}
    assert "others learn faster" in next(each.why for each in decided if each.finalist == 3)
    # One that has all its seeds waits for the one before it.
    decided = decide([racer(0, CAP * 4, 300.0), racer(1, CAP * 3, 320.0)], rules())
    assert verdicts(decided) == {0: "waits", 1: "stays"}


def test_all_seeds_of_the_fastest_at_the_cap_end_the_race() -> None:
    low = [500.0, 90.0, 500, 500]
    racers = [racer(0, CAP * 2, 300.0), racer(1, CAP * 4, 320.0), racer(2, low)]
    decided = decide(racers, rules())
    assert verdicts(decided) == {0: "equivalent", 1: "wins", 2: "behind"}
    assert "1 more" in next(each.why for each in decided if each.verdict == "wins")


def test_a_highest_score_that_only_one_has_reached_is_no_cap() -> None:
    scores = [499.0, 499.5, 499.7, 500.0] * 3
    decided = decide([racer(0, scores), racer(1, [400.0, 410.0, 420, 430] * 3)], rules(blocks=9))
    assert verdicts(decided)[0] == "wins"
    assert verdicts(decided)[1] == "out"
    near = [racer(0, scores), racer(1, [499.1, 499.4, 499.8, 499.9] * 3)]
    assert set(verdicts(decide(near, rules())).values()) == {"stays"}


def test_a_short_race_takes_no_more_seeds_at_the_cap_than_it_may() -> None:
    decided = decide([racer(0, CAP), racer(1, CAP, 1.0)], rules(blocks=1, finalists=2))
    assert verdicts(decided) == {0: "equivalent", 1: "wins"}


def test_the_same_scores_make_the_same_decisions() -> None:
    rng = np.random.default_rng(3)
    racers = [racer(rank, rng.normal(0, 1, 20).tolist()) for rank in range(3)]
    given = rules(seeds=20, blocks=3)
    assert decide(racers, given) == decide(racers, given)
    assert decide(racers, given) == decide(racers[::-1], given)
