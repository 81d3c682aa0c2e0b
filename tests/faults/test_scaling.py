"""More and fewer workers under the same names: row 24 of the faults."""

from __future__ import annotations

import signal

import pytest

from tests.faults.fleet import SEGMENT, Fleet
from tests.faults.processes import Process, eventually

CLAIM = "fleet.claim("


def _scale(fleet: Fleet, many: int, more: int) -> None:
    """Scale many -> 1 -> more; then restart all under the same host names and process ids."""
    fleet.create(trials=many + more, train_steps=SEGMENT * 4)

    def up(count: int, steer: str) -> list[Process]:
        return [
            fleet.worker(steer=steer, FAULTS_HOST=f"box-{slot}", lease_seconds="600")
            for slot in range(count)
        ]

    def open_fences() -> list[int]:
        return [attempt.fence for attempt in fleet.attempts() if attempt.outcome is None]

    first = up(many, "slow")
    eventually(lambda: len(open_fences()) == many, f"{many} trials are under way")
    for process in first[1:]:
        process.send(signal.SIGTERM)
    for process in first[1:]:
        assert process.ends() == 143
    first[0].kill()
    old = {attempt.fence: attempt for attempt in fleet.attempts() if attempt.outcome is None}
    assert len(old) == 1
    query = "SELECT fence, expires_at FROM fleet.attempts WHERE fence = ANY(:fences)"
    expires = fleet.rows(query, fences=list(old))

    second = up(more, "block")
    eventually(lambda: len(open_fences()) == len(old) + more, f"{more} more trials are under way")
    beats = "SELECT 1 FROM fleet.workers WHERE seen_at > started_at AND ended_at IS NULL"
    eventually(lambda: len(fleet.rows(beats)) >= more, "every worker says that it is alive")
    # Same host, same process id, and yet nobody extends what is not its own.
    assert fleet.rows(query, fences=list(old)) == expires
    for process in second:
        process.kill()
    names = [attempt.worker for attempt in fleet.attempts()]
    assert len(set(names)) == len(names) == many + more

    third = up(more, "")
    eventually(lambda: sum("claimed" in process.output for process in third) > 0, "they work")
    fleet.expire(*(attempt.fence for attempt in fleet.attempts() if attempt.worker in names))
    fleet.ends(within=300.0)
    for process in third:
        assert process.ends() == 0
    assert len(fleet.rows("SELECT 1 FROM fleet.workers")) == many + 2 * more


def test_24_scale_up_and_down_under_the_same_host_names(fleet: Fleet) -> None:
    _scale(fleet, 3, 4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_24_scale_8_1_32_under_the_same_host_names(fleet: Fleet) -> None:
    _scale(fleet, 8, 32)
