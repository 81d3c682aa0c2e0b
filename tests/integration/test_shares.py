"""A fleet's workers choose their studies by priority and fair share, one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from coordinator.watch import step
from tests.support.invariants import check_invariants
from tests.support.studies import LEASE, at_once, create, expire, finish, states, train_by_hand
from trialfleet.store import leases, studies
from trialfleet.store.leases import Claim
from trialfleet.store.steering import course
from trialfleet.store.storage import Database

Open = Callable[[], Database]


def take_any(
    database: Database, *, skipped: tuple[str, ...] = (), claim_id: UUID | None = None
) -> Claim | None:
    return leases.claim_any(
        database,
        worker="hand",
        claim_id=claim_id or uuid4(),
        lease_seconds=LEASE,
        skipped=skipped,
    )


def taken(database: Database, *, skipped: tuple[str, ...] = ()) -> Claim:
    claim = take_any(database, skipped=skipped)
    assert claim is not None
    return claim


def prioritized(database: Database, **priorities: int) -> None:
    for name, priority in priorities.items():
        study = create(database, name=name, trials=40, max_failures=40)
        studies.set_priority(database, study, priority)


@pytest.mark.parametrize(
    ("priorities", "workers", "shares"),
    [
        ({"a": 1, "b": 1}, 4, {"a": 2, "b": 2}),
        ({"a": 3, "b": 1}, 4, {"a": 3, "b": 1}),
        ({"a": 1, "b": 3}, 8, {"a": 2, "b": 6}),
        ({"a": 2, "b": 1, "c": 1}, 8, {"a": 4, "b": 2, "c": 2}),
        # Fewer workers than it would take: nobody is left without one.
        ({"a": 100, "b": 1}, 2, {"a": 1, "b": 1}),
    ],
)
def test_shares_are_the_priorities(
    database: Database, priorities: dict[str, int], workers: int, shares: dict[str, int]
) -> None:
    prioritized(database, **priorities)
    claims = [taken(database) for _ in range(workers)]
    assert Counter(claim.study for claim in claims) == shares
    # And they stay, whichever trial ends next.
    for number in range(20):
        finish(database, claims.pop(number % 3 % workers))
        claims.append(taken(database))
        assert Counter(claim.study for claim in claims) == shares


def test_workers_that_ask_at_once_see_what_the_others_took(open_database: Open) -> None:
    databases = [open_database() for _ in range(8)]
    prioritized(databases[0], a=3, b=1)
    claims = at_once(*[lambda each=each: taken(each) for each in databases])
    assert Counter(claim.study for claim in claims) == {"a": 6, "b": 2}
    for name in "ab":
        numbers = sorted(claim.number for claim in claims if claim.study == name)
        assert numbers == [*range(len(numbers))]


def test_one_worker_takes_turns(database: Database) -> None:
    prioritized(database, a=5, b=1, c=1)
    served = []
    for _ in range(6):
        claim = taken(database)
        served.append(claim.study)
        finish(database, claim)
    assert sorted(served[:3]) == sorted(served[3:]) == ["a", "b", "c"]


def test_a_study_that_is_submitted_later_gets_its_share_as_trials_end(database: Database) -> None:
    prioritized(database, a=1)
    claims = [taken(database) for _ in range(4)]
    prioritized(database, b=1)
    for _ in range(2):
        finish(database, claims.pop(0))
        claims.append(taken(database))
    assert Counter(claim.study for claim in claims) == {"a": 2, "b": 2}


def test_what_has_nothing_to_give_takes_no_share(database: Database) -> None:
    prioritized(database, paused=9, stopped=9, failing=9, foreign=9, skipped=9, open=1)
    course.pause(database, studies.find(database, "paused"))
    course.stop(database, studies.find(database, "stopped"), "by hand")
    with database.transaction() as connection:
        connection.execute(text("UPDATE fleet.studies SET compatibility = 0 WHERE name='foreign'"))
        connection.execute(text("UPDATE fleet.studies SET max_failures = 0 WHERE name='failing'"))
    failing = leases.claim(
        database, "failing", worker="hand", claim_id=uuid4(), lease_seconds=LEASE
    )
    assert failing is not None
    finish(database, failing, state="FAIL")
    for _ in range(3):
        assert taken(database, skipped=("skipped",)).study == "open"


def test_both_stages_are_served_and_budgets_are_exact(database: Database) -> None:
    for name, trials in (("a", 3), ("b", 2)):
        create(database, name=name, trials=trials, top=1, final_seeds=2)
    stages = set()
    for _ in range(30):
        for name in "ab":
            step(database, name)
        if (claim := take_any(database)) is None:
            break
        stages.add((claim.study, claim.stage))
        train_by_hand(database, studies.find(database, claim.study), claim, scores=[1.0, 2.0])
    assert stages == {(name, stage) for name in "ab" for stage in ("search", "final")}
    for name in "ab":
        assert step(database, name).stage == "done"
        check_invariants(database, name)


def test_a_lost_trial_of_any_study_is_taken_back_first(database: Database) -> None:
    prioritized(database, a=9, b=1)
    first = [taken(database) for _ in range(2)]
    assert {claim.study for claim in first} == {"a", "b"}
    lost = next(claim for claim in first if claim.study == "b")
    expire(database, lost.fence)
    again = taken(database)
    assert (again.study, again.trial_id, again.attempt) == ("b", lost.trial_id, 2)


def test_a_claim_whose_reply_was_lost_is_the_same_claim(database: Database) -> None:
    prioritized(database, a=1, b=1)
    claim_id = uuid4()
    first = take_any(database, claim_id=claim_id)
    assert first is not None
    assert take_any(database, claim_id=claim_id) == first
    assert len(states(database, studies.find(database, first.study).search_id)) == 1


def test_a_fleet_without_a_study_has_nothing_to_do(database: Database) -> None:
    assert take_any(database) is None


def test_the_choice_reads_neither_trials_nor_studies_that_have_ended(database: Database) -> None:
    prioritized(database, a=1)
    with database.transaction() as connection:
        connection.execute(
            text("""
            INSERT INTO studies (study_id, study_name)
            SELECT n, 'old-' || n FROM generate_series(1000, 3000) n
        """)
        )
        connection.execute(
            text("""
            INSERT INTO fleet.studies (name, search_id, stage, spec, digest, version,
                compatibility, budget, max_failures, max_attempts)
            SELECT 'old-' || n, n, 'done', '{}', '', '', 1, 1, 1, 1
            FROM generate_series(1000, 3000) n
        """)
        )
        connection.execute(text("ANALYZE fleet.studies, fleet.counters"))
        plan = "\n".join(
            connection.scalars(text("EXPLAIN SELECT * FROM fleet.next_studies(2, '{}')"))
        )
    assert "studies_open" in plan
    assert "trials" not in plan
