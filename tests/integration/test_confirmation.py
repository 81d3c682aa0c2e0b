"""A winner that is confirmed until its interval is narrow: block by block, and each seed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import StringIO
from itertools import chain
from typing import Any

import pytest
from optuna.trial import FrozenTrial
from rich.console import Console
from sqlalchemy import text

from coordinator.answer import answer
from coordinator.race import course
from coordinator.race.replaying import replay_decisions
from coordinator.retrain import ENQUEUED
from coordinator.status import snapshot
from coordinator.watch import step
from tests.integration.test_race import begun, decided, final_trials, raced, train
from tests.support.studies import at_once, take, train_by_hand
from trialfleet.artifacts.stores import open_store
from trialfleet.cli.show.outcome import result_report
from trialfleet.seeds import confirmation_seeds
from trialfleet.store import studies
from trialfleet.store.steering import course as steering
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study

BLOCKS = [8, 12, 18, 28, 42, 60]  # seeds by the end of each block, of two agents to a trial

Scores = Callable[[int, Sequence[int], bool], Sequence[float] | None]


def best(rank: int, seeds: Sequence[int], confirms: bool) -> list[float]:
    """Rank 0 wins the race, and every seed that confirms it reaches the highest return."""
    return [500.0] * len(seeds) if confirms else [400.0 - 100 * rank + seed % 3 for seed in seeds]


def scattered(rank: int, seeds: Sequence[int], confirms: bool) -> list[float]:
    return [float(seed % 500) for seed in seeds] if confirms else [*best(rank, seeds, False)]


def study_until(database: Database, width: float, most: int = 60, **fields: Any) -> Study:
    """A study whose race has begun, between two finalists, of one block."""
    given = {"seeds": 2, "final_seeds": 2, "confirm": f"{{ width = {width}, most = {most} }}"}
    return begun(database, [9.0, 8.0], **{**given, **fields})


def of_confirmation(database: Database, study: Study) -> list[FrozenTrial]:
    return [each for each in final_trials(database, study) if "confirms" in each.user_attrs]


def seeds_of(trials: Sequence[FrozenTrial]) -> list[int]:
    return [*chain(*(trial.user_attrs["seeds"] for trial in trials))]


def looks(database: Database, study: Study) -> list[tuple[str, int]]:
    """What was decided of the confirmation, and after how many seeds."""
    verdicts = ("confirming", "confirmed", "spent")
    rows = decided(database, study)
    return [(row.verdict, row.seeds) for row in rows if row.verdict in verdicts]


def test_blocks_are_trained_until_the_interval_is_narrow(database: Database) -> None:
    study = study_until(database, 70)
    counts = []
    while not (study := step(database, study.name)).ended:
        counts.append(len(seeds_of(of_confirmation(database, study))))
        train(database, study, best)
    assert [*dict.fromkeys(counts)] == [0, *BLOCKS[:4]]  # nothing is trained ahead of its block
    assert looks(database, study) == [*(("confirming", n) for n in BLOCKS[:3]), ("confirmed", 28)]
    # In the order in which they are drawn, each once, and not beyond what was needed.
    assert (
        seeds_of(of_confirmation(database, study))
        == confirmation_seeds(study.spec.seed, 0, 60)[:28]
    )
    assert study.result is not None
    found = answer(study.result)
    assert (len(found.scores), found.mean, found.confirmed) == (28, 500.0, True)
    assert found.until == {"width": 70.0, "most": 60, "reached": True}
    assert study.result["race"]["blocks"] == 1
    assert study.result["race"]["seeds"] == 4  # of the race alone
    last = decided(database, study)[-1]
    assert last.why == "95% interval 432.6 … 500.0 is 67.4 wide, to be 70"
    assert all(pair.equal for pair in replay_decisions(database, study))


def test_no_more_than_most_seeds_are_trained_however_wide_the_interval_is(
    database: Database,
) -> None:
    study = raced(database, study_until(database, 20, most=21), scattered)
    assert [n for _, n in looks(database, study)] == [4, 6, 10, 16, 21]
    assert [verdict for verdict, _ in looks(database, study)][-2:] == ["confirming", "spent"]
    assert seeds_of(of_confirmation(database, study)) == confirmation_seeds(study.spec.seed, 0, 21)
    assert study.result is not None
    assert answer(study.result).until == {"width": 20.0, "most": 21, "reached": False}
    assert all(pair.equal for pair in replay_decisions(database, study))


@pytest.mark.parametrize(
    ("width", "scores", "told"),
    [
        (70, best, "its interval is at most 70 wide after 28 of 60 seeds"),
        (20, scattered, "its interval was to be at most 20 wide, and is not after all 60 seeds"),
    ],
)
def test_the_answer_says_whether_the_width_was_reached(
    database: Database, width: float, scores: Scores, told: str
) -> None:
    study = raced(database, study_until(database, width), scores)
    told_here = StringIO()
    Console(width=200, file=told_here).print(result_report(study))
    assert told in told_here.getvalue()


def test_without_bounds_of_returns_the_spread_decides(database: Database) -> None:
    env = "gymnasium.envs.classic_control:CartPole-v1"  # of which nothing is known by its name
    study = study_until(database, 3, most=1_000, env=env)
    assert study.spec.returns is None

    def even(rank: int, seeds: Sequence[int], confirms: bool) -> list[float]:
        return [50 - 40 * rank + seed % 97 / 97 for seed in seeds]

    study = raced(database, study, even)
    last = decided(database, study)[-1]
    assert last.verdict == "confirmed"
    assert last.seeds < 100
    assert "Student" in last.why


def test_many_coordinators_at_once_enqueue_each_block_once(
    open_database: Callable[[], Database],
) -> None:
    databases = [open_database() for _ in range(4)]
    database = databases[0]
    study = study_until(database, 70)
    train(database, study, best)
    for trained in (0, *BLOCKS[:3]):
        now = studies.find(database, study.name)
        at_once(*[lambda each=each, now=now: course.advance(each, now) for each in databases])
        assert course.advance(database, now)  # one that has only now looked
        there = seeds_of(of_confirmation(database, study))
        assert len(there) == len({*there}) == BLOCKS[BLOCKS.index(trained) + 1 if trained else 0]
        train(database, study, best)
    now = studies.find(database, study.name)
    at_once(*[lambda each=each, now=now: course.advance(each, now) for each in databases])
    assert looks(database, study)[-1] == ("confirmed", 28)
    raced(database, study, best)


def test_a_block_waits_for_a_lost_model_that_is_trained_again(database: Database) -> None:
    study = study_until(database, 120)
    for _ in range(3):
        train(database, study, best)
        step(database, study.name)
    train(database, study, best)  # 18 seeds, which are enough
    model = max(of_confirmation(database, study), key=lambda t: -min(t.user_attrs["seeds"]))
    open_store(study.artifacts, database).remove(model.user_attrs["model"]["artifact"])
    while "replaces" not in (again := of_confirmation(database, study)[-1].user_attrs):
        assert step(database, study.name).stage == "final"
    assert again == {
        **{name: model.user_attrs[name] for name in ENQUEUED},
        "replaces": model.number,
    }
    study = raced(database, study, best)
    assert study.result is not None
    assert len(study.result["confirmation"]["scores"]) == 18
    assert all(pair.equal for pair in replay_decisions(database, study))


def test_a_winner_that_fails_in_a_later_block_makes_way_for_the_next(database: Database) -> None:
    study = study_until(database, 70)
    blocks: list[int] = []

    def fails(rank: int, seeds: Sequence[int], confirms: bool) -> list[float] | None:
        if confirms and rank == 0:
            blocks.append(len(seeds))
            if len(blocks) > 4:  # the first block's four trials are done
                return None
        return best(rank, seeds, confirms)

    study = raced(database, study, fails)
    rows = [(row.block, row.finalist, row.verdict, row.seeds) for row in decided(database, study)]
    assert rows[2:] == [
        (1, 0, "wins", 2),
        (1, 1, "behind", 2),
        (2, 0, "confirming", 8),
        (3, 0, "failed", 2),
        (3, 1, "wins", 2),
        (4, 1, "confirming", 8),
        (5, 1, "confirming", 12),
        (6, 1, "confirming", 18),
        (7, 1, "confirmed", 28),
    ]
    assert study.result is not None
    assert study.result["confirmation"]["seeds"] == confirmation_seeds(study.spec.seed, 1, 60)[:28]
    assert all(pair.equal for pair in replay_decisions(database, study))


def test_a_decision_that_does_not_follow_from_the_trials_is_found(database: Database) -> None:
    study = raced(database, study_until(database, 70), best)
    with database.transaction() as connection:
        connection.execute(text("UPDATE fleet.decisions SET mean = 499 WHERE seeds = 18"))
    [wrong] = [pair for pair in replay_decisions(database, study) if not pair.equal]
    assert wrong.decided.verdict == "confirming"


def test_an_extended_study_is_confirmed_on_other_seeds(database: Database) -> None:
    study = raced(database, study_until(database, 70), best)
    former = {*seeds_of(final_trials(database, study))}
    steering.extend(database, study, 3)
    train_by_hand(database, study, take(database), scores=[7.0] * 2)
    study = raced(database, step(database, study.name), best)
    assert looks(database, study)[-1] == ("confirmed", 28)
    assert not former & {*seeds_of(final_trials(database, study))}


def test_where_the_confirmation_stands_is_told(database: Database) -> None:
    study = study_until(database, 70)
    train(database, study, best)
    told, left = [], []
    while not (study := step(database, study.name)).ended:
        shot = snapshot(database, study)
        assert shot.race is not None
        told.append(shot.race.told)
        left.append(shot.race.confirming_to_come)
        train(database, study, best)
    won = "trial 0 has won the race and is being confirmed: "
    assert told[0] == f"{won}0 of at most 60 seeds, until its 95% interval is 70 wide"
    assert told[1].startswith(f"{won}8 of at most 60 seeds, 95% interval ")
    assert told[1].endswith("wide, to be 70")
    assert told[-1].startswith(f"{won}28 of at most 60 seeds")
    assert left == [*(60 - n for n in BLOCKS[:4]), 0]
