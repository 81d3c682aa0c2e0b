"""A whole fleet, and everything that can be done to it at random: seeded, and bounded in time.

Studies come, go and are steered; workers and coordinators are killed and frozen; stock Optuna
writes what is not its to write; somebody holds locks from psql. Then all of it stops, the studies
end, and what must always hold is looked up in the database.

RANDOM_FLEET_SEED and RANDOM_FLEET_SECONDS choose another course, or a longer one.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from tests.faults.fleet import LEASE, STEERED, Fleet
from tests.faults.processes import Process, eventually
from tests.support.invariants import check_invariants
from tests.support.studies import trivial_study
from trialfleet.errors import StudyDeletedError
from trialfleet.store import leases

SEED = int(os.environ.get("RANDOM_FLEET_SEED", "0"))
SECONDS = float(os.environ.get("RANDOM_FLEET_SECONDS", "60"))
WORKERS = 3
OPEN_STUDIES = 4
TRIALS = 3
# A worker has one connection for its trial and one for its heartbeat; a coordinator some more.
CONNECTIONS = 4 * (WORKERS + 2) + 20
DEAF = 10.0  # seconds after which a process that does not end on SIGTERM does not hear it


@dataclass
class Chaos:
    """The fleet, what is being done to it, and what it should have come to."""

    fleet: Fleet
    folder: Path
    rng: random.Random
    coordinator: Process | None = None
    workers: list[Process] = field(default_factory=list)
    frozen: list[tuple[float, Process]] = field(default_factory=list)  # until when
    locks: list[tuple[float, ExitStack]] = field(default_factory=list)
    studies: list[str] = field(default_factory=list)  # submitted, and not deleted
    numbers: Iterator[int] = field(default_factory=itertools.count)  # no name is used twice
    done: list[str] = field(default_factory=list)  # for whoever reads a failure

    def begin(self) -> None:
        """Start the fleet."""
        self.start_coordinator()
        for _ in range(WORKERS):
            self.start_worker()

    def start_coordinator(self) -> None:
        self.coordinator = self.fleet.start("coordinate", "--all")

    def start_worker(self) -> None:
        # A worker that is slow has trials that something can happen to.
        self.workers.append(self.fleet.worker(study=None, steer=self.rng.choice(["", "slow"])))

    # What people do.

    def submit(self) -> None:
        """Add a study, if there are not enough."""
        if len(self._open()) >= OPEN_STUDIES:
            return
        name = f"study-{next(self.numbers)}"
        self.studies.append(name)
        race = self.rng.random() < 0.5
        fields = {
            **STEERED,
            "name": name,
            "trials": TRIALS,
            "train_steps": 48,
            "eval_every": 8,
            "top": 2,
            "race": race,
            "confirm": 2 if race else 0,
            "max_attempts": 50,
            "max_failures": 50,
        }
        file = self.folder / f"{name}.toml"
        file.write_text(trivial_study(**fields), encoding="utf-8")
        self._run("submit", str(file), "--priority", str(self.rng.randint(1, 3)))

    def steer(self) -> None:
        """Change a study's course."""
        if (name := self._any()) is None:
            return
        trials = self._count(name) + self.rng.randint(1, 2)
        results = self.folder / "results.csv"
        results.write_text(
            f"value,gamma,learning_rate\n1.0,0.9{self.rng.randrange(10, 90)},0.001\n",
            encoding="utf-8",
        )
        self._run(
            *self.rng.choice(
                [
                    ("extend", name, "--trials", str(trials)),
                    ("stop", name),
                    ("pause", name),
                    ("resume", name),
                    ("resume", name),
                    ("enqueue", name, f"gamma=0.9{self.rng.randrange(10, 90)}"),
                    ("import", name, str(results)),
                ]
            )
        )

    def extend_final(self) -> None:
        """Extend a study that is in its final stage, which takes the stage's name from it."""
        rows = self.fleet.rows("SELECT name FROM fleet.studies WHERE stage = 'final'")
        names = sorted({row.name for row in rows} & {*self.studies})
        if names:
            name = self.rng.choice(names)
            self._run("extend", name, "--trials", str(self._count(name) + 1))

    def delete(self) -> None:
        """Delete a study, as we do or as stock Optuna does."""
        if self.rng.random() < 0.5 or (name := self._any()) is None:
            return
        self.studies.remove(name)
        if self.rng.random() < 0.5:
            self._run("delete", name, "--yes")
        else:
            with suppress(Exception):
                self._stock(name)._storage.delete_study(self._stock(name)._study_id)
        if name in self._names():
            self.studies.append(name)  # something was in the way

    # What strangers do: whatever is not refused must break nothing.

    def strange(self) -> None:
        """Write to a study as stock Optuna."""
        if (name := self._any()) is None:
            return
        what = self.rng.choice([_ask, _tell, _enqueue, _enqueue_outside, _add, _rename])
        self.done.append(f"{what.__name__} {name}")
        with suppress(Exception):
            what(self._stock(name + self.rng.choice(["", ".final"])), self.rng)

    # What happens to processes.

    def kill(self) -> None:
        """Kill a worker, and start another."""
        victim = self.rng.choice(self.workers)
        self.done.append(f"kill {victim.name}")
        self._part_with(victim)
        victim.kill()
        self.start_worker()

    def freeze(self) -> None:
        """Freeze a worker past its lease."""
        if self.frozen:
            return
        victim = self.rng.choice(self.workers)
        self.done.append(f"freeze {victim.name}")
        victim.send(signal.SIGSTOP)
        self.frozen.append((time.monotonic() + 6.0, victim))

    def terminate(self) -> None:
        """Stop a worker, which must hear it, and start another."""
        if awake := self._awake():
            self._stop(self.rng.choice(awake))
            self.start_worker()

    def kill_coordinator(self) -> None:
        """Kill the coordinator, and start another."""
        assert self.coordinator is not None
        self.done.append("kill the coordinator")
        self.coordinator.kill()
        self.start_coordinator()

    # What somebody does in psql.

    def lock_study(self) -> None:
        """Hold a study's row for some seconds."""
        name = self._any()
        if name is not None and not self.locks:
            self._lock("SELECT FROM public.studies WHERE study_name = :name FOR UPDATE", name=name)

    def lock_lost_trial(self) -> None:
        """Hold the row of a trial whose worker was killed; the others hear a stop meanwhile."""
        if self.locks or len(self.workers) < 2:
            return
        running = self.fleet.rows(
            "SELECT a.fence, a.trial_id, w.pid FROM fleet.attempts a"
            " JOIN fleet.workers w USING (worker) WHERE a.ended_at IS NULL"
        )
        known = {worker.pid: worker for worker in self.workers}
        held = [row for row in running if row.pid in known]
        if not held:
            return
        row = self.rng.choice(held)
        victim = known[row.pid]
        self._part_with(victim)
        victim.kill()
        self._lock(
            "SELECT FROM public.trials WHERE trial_id = :trial_id FOR UPDATE",
            trial_id=row.trial_id,
            seconds=3 * DEAF,
        )
        self.fleet.expire(row.fence)
        self.start_worker()
        self.terminate()
        self._unlock()

    def _lock(self, statement: str, *, seconds: float | None = None, **values: Any) -> None:
        self.done.append(f"{statement} {values}")
        stack = ExitStack()
        engine = create_engine(self.fleet.url, poolclass=NullPool)
        connection: Connection = stack.enter_context(engine.connect())
        stack.enter_context(connection.begin())
        with suppress(Exception):  # somebody else may have it
            connection.execute(text("SET LOCAL lock_timeout = '2s'"))
            connection.execute(text(statement), values)
        seconds = seconds or self.rng.uniform(2.0, 8.0)
        self.locks.append((time.monotonic() + seconds, stack))

    def _unlock(self) -> None:
        for _, stack in self.locks:
            stack.close()
        self.locks.clear()

    # What is looked at all the time.

    def look(self) -> None:
        """Undo what has lasted long enough, and see that everybody is there."""
        now = time.monotonic()
        for until, victim in [*self.frozen]:
            if now > until:
                victim.send(signal.SIGCONT)
                self.frozen.remove((until, victim))
        for until, stack in [*self.locks]:
            if now > until:
                stack.close()
                self.locks.remove((until, stack))
        assert self.coordinator is not None
        for process in (self.coordinator, *self.workers):
            assert process.code is None, f"{process.name} ended: {process.output[-3000:]}"
        (row,) = self.fleet.rows(
            "SELECT count(*) AS there FROM pg_stat_activity WHERE datname = current_database()"
        )
        assert row.there <= CONNECTIONS, f"{row.there} server processes"
        if self.locks:
            self._claim()

    def _claim(self) -> None:
        """Claim as a worker of the fleet does, and give back: nobody waits for what is locked."""
        began = time.monotonic()
        claim = leases.claim_any(
            self.fleet.database, worker="probe", claim_id=uuid4(), lease_seconds=LEASE
        )
        assert time.monotonic() - began < DEAF / 2, "a claim waited for a lock"
        if claim is not None:
            with suppress(StudyDeletedError):
                leases.release(self.fleet.database, claim)

    def settle(self) -> None:
        """Leave the fleet alone, and wait until every study has ended."""
        for _, victim in self.frozen:
            victim.send(signal.SIGCONT)
        self.frozen.clear()
        self._unlock()
        for worker in self.workers:
            worker.steer("")
        for name in self._open():
            self._run("resume", name)

        def ended() -> bool:
            self.look()
            return not self._open()

        eventually(ended, "every study ends", within=180.0)

    def _awake(self) -> list[Process]:
        frozen = [victim for _, victim in self.frozen]
        return [worker for worker in self.workers if worker not in frozen]

    def _part_with(self, victim: Process) -> None:
        self.workers.remove(victim)
        self.frozen = [each for each in self.frozen if each[1] is not victim]

    def _stop(self, victim: Process) -> None:
        self.done.append(f"stop {victim.name}")
        self._part_with(victim)
        victim.send(signal.SIGTERM)
        assert victim.ends(within=DEAF) == 143, victim.output[-3000:]

    def _run(self, *arguments: str) -> None:
        """Run a command, which may be refused, but never fails in another way."""
        self.done.append(" ".join(arguments))
        process = self.fleet.start(*arguments)
        # 5: the lock that it needs was held for too long.
        assert process.ends(within=60.0) in (0, 2, 5), f"{arguments}: {process.output}"

    def _names(self) -> list[str]:
        return [row.name for row in self.fleet.rows("SELECT name FROM fleet.studies")]

    def _open(self) -> list[str]:
        rows = self.fleet.rows(
            "SELECT name FROM fleet.studies WHERE stage IN ('search', 'final') ORDER BY name"
        )
        return [row.name for row in rows]

    def _any(self) -> str | None:
        names = sorted({*self._names()} & {*self.studies})
        return self.rng.choice(names) if names else None

    def _count(self, name: str) -> int:
        rows = self.fleet.rows(
            "SELECT budget - imported AS trials FROM fleet.studies WHERE name = :name", name=name
        )
        return rows[0].trials if rows else TRIALS

    def _stock(self, name: str) -> optuna.Study:
        url = self.fleet.url.render_as_string(hide_password=False)
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"poolclass": NullPool})
        return optuna.load_study(study_name=name, storage=storage)


def _ask(study: optuna.Study, _rng: random.Random) -> None:
    study.ask()


def _tell(study: optuna.Study, rng: random.Random) -> None:
    trial = rng.choice(study.get_trials(deepcopy=False))
    study._storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [999.0])


def _enqueue(study: optuna.Study, rng: random.Random) -> None:
    study.enqueue_trial({"gamma": rng.uniform(0.9, 0.999)})


def _enqueue_outside(study: optuna.Study, _rng: random.Random) -> None:
    study.enqueue_trial({"gamma": 0.5})


def _add(study: optuna.Study, _rng: random.Random) -> None:
    study.add_trial(optuna.trial.create_trial(value=999.0))


def _rename(study: optuna.Study, _rng: random.Random) -> None:
    """What the dashboard's button does."""
    copy = optuna.create_study(
        storage=study._storage, study_name=f"copy of {study.study_name}", direction="maximize"
    )
    try:
        copy.add_trials(study.get_trials(deepcopy=False))
        for key, value in study.user_attrs.items():
            copy.set_user_attr(key, value)
    except Exception:
        copy._storage.delete_study(copy._study_id)
        raise
    study._storage.delete_study(study._study_id)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 600)
def test_whatever_is_done_to_a_fleet_its_promises_hold(fleet: Fleet) -> None:
    rng = random.Random(SEED)
    chaos = Chaos(fleet=fleet, folder=fleet.folder, rng=rng)
    chaos.begin()
    actions: dict[Callable[[], None], int] = {
        chaos.submit: 6,
        chaos.steer: 6,
        chaos.extend_final: 6,
        chaos.delete: 1,
        chaos.strange: 8,
        chaos.kill: 2,
        chaos.freeze: 1,
        chaos.terminate: 2,
        chaos.kill_coordinator: 1,
        chaos.lock_study: 2,
        chaos.lock_lost_trial: 2,
    }
    deadline = time.monotonic() + SECONDS
    try:
        while time.monotonic() < deadline:
            (action,) = rng.choices([*actions], [*actions.values()])
            action()
            chaos.look()
        chaos.settle()
        assert {*chaos.studies} == {*chaos._names()}, "a study is gone, or one nobody deleted"
        for name in chaos.studies:
            check_invariants(fleet.database, name)
        outside = fleet.rows(
            "SELECT trial_id FROM public.trial_params JOIN public.trials USING (trial_id)"
            " WHERE param_name = 'gamma' AND param_value < 0.9 AND state = 'COMPLETE'"
        )
        assert not outside, f"trained outside of the study's range: {outside}"
        for process in fleet.processes:
            assert "Traceback" not in process.output, f"{process.name}: {process.output[-5000:]}"
    except BaseException:
        print("\n".join(chaos.done))
        raise
    finally:
        chaos._unlock()
    print(f"{len(chaos.done)} things done to {len(chaos.studies)} studies, seed {SEED}")
