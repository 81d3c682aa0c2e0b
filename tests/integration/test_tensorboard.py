"""What TensorBoard itself reads of a study's event files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer

from coordinator.final import begin_final
from coordinator.tensorboard.follow import Follower
from coordinator.tensorboard.runs import Choice
from tests.support.studies import create, expire, finish, send, take, train_by_hand
from trialfleet.errors import UsageError
from trialfleet.store import leases, metrics
from trialfleet.store.storage import Database

Curve = list[tuple[int, float]]


def shown(logdir: Path, run: str = "trial-0000", tag: str = "Evaluation Score") -> Curve:
    """The points of one tag, by the loader that `serve` uses."""
    board = EventMultiplexer()
    board.AddRunsFromDirectory(str(logdir))
    board.Reload()
    events = board.Tensors(run, tag)
    return [(event.step, float(event.tensor_proto.float_val[0])) for event in events]


def test_a_trial_that_begins_anew_leaves_no_wrong_point(database: Database, tmp_path: Path) -> None:
    create(database, train_steps=64)
    claim = take(database)
    send(database, claim, 16, [1.0, 3.0])
    send(database, claim, 32, [5.0, 7.0])
    follower = Follower(database, "trivial", tmp_path, Choice())
    follower.look()
    assert shown(tmp_path) == [(16, 2.0), (32, 6.0)]
    assert shown(tmp_path, tag="band/Evaluation Score highest seed") == [(16, 3.0), (32, 7.0)]
    expire(database, claim.fence)
    leases.reap(database, "trivial")
    claim = take(database)
    send(database, claim, 16, [8.0, 8.0])
    follower.look()
    assert shown(tmp_path) == [(16, 8.0)]
    follower.close()


def test_a_restart_doubles_no_point(database: Database, tmp_path: Path) -> None:
    create(database, train_steps=64)
    claim = take(database)
    send(database, claim, 16, [1.0, 3.0])
    for step in (32, 48):
        follower = Follower(database, "trivial", tmp_path, Choice())
        follower.look()
        send(database, claim, step, [5.0, 7.0])
        follower.look()
        follower.close()
    assert shown(tmp_path) == [(16, 2.0), (32, 6.0), (48, 6.0)]


def test_a_look_reads_only_what_is_new(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(database, train_steps=64)
    claim = take(database)
    send(database, claim, 16, [1.0, 3.0])
    read: list[int] = []
    ask = metrics.read_after

    def counted(*arguments: Any) -> Any:
        found = ask(*arguments)
        read.append(sum(len(steps) for steps in found.values()))
        return found

    monkeypatch.setattr(metrics, "read_after", counted)
    follower = Follower(database, "trivial", tmp_path, Choice())
    follower.look()
    follower.look()
    send(database, claim, 32, [1.0, 3.0])
    follower.look()
    follower.close()
    assert read == [1, 0, 1]


def runs(logdir: Path) -> set[str]:
    """The runs that TensorBoard finds."""
    board = EventMultiplexer()
    board.AddRunsFromDirectory(str(logdir))
    found = set(board.Runs())
    assert "." not in found
    return found - {"study"}


def follow(database: Database, logdir: Path, choice: Choice) -> set[str]:
    """The runs after one look."""
    follower = Follower(database, "trivial", logdir, choice)
    follower.look()
    follower.close()
    return runs(logdir)


def test_what_runs_the_best_and_the_finalists_are_shown_unless_others_are_wanted(
    database: Database, tmp_path: Path
) -> None:
    study = create(database, trials=24, top=1, final_seeds=2)
    claims = [take(database) for _ in range(24)]
    for claim in claims[:23]:
        finish(database, claim, value=float(claim.number))
    send(database, claims[23], 8, [0.0, 0.0])
    assert follow(database, tmp_path, Choice()) == {f"trial-{n:04}" for n in range(3, 24)}
    assert follow(database, tmp_path, Choice.parse("1, 22", seeds=False)) == {
        "trial-0001",
        "trial-0022",
    }
    assert len(follow(database, tmp_path, Choice.parse("all", seeds=False))) == 24

    train_by_hand(database, study, claims[23], scores=[500.0, 600.0])
    begin_final(database, study)
    final = take(database)
    send(database, final, 16, [70.0, 90.0])
    assert follow(database, tmp_path, Choice()) == {
        "final-trial-0023",
        "trial-0023",
        *(f"trial-{n:04}" for n in range(4, 23)),
    }
    assert shown(tmp_path, "final-trial-0023") == [(16, 80.0)]
    only = Choice.parse("23", seeds=True)
    assert follow(database, tmp_path, only) == {
        f"{name}-0023/seed-{seed}" for name in ("trial", "final-trial") for seed in (0, 1)
    }
    assert shown(tmp_path, "final-trial-0023/seed-1") == [(16, 90.0)]


@pytest.mark.parametrize("trials", ["", "1,", "one", "-1", "1;2", "1" * 12])
def test_trials_that_are_no_numbers(trials: str) -> None:
    with pytest.raises(UsageError, match="--trials"):
        Choice.parse(trials, seeds=False)
