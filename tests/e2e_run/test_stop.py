"""Ctrl-C in the middle of a run, and the same command again."""

from __future__ import annotations

import signal
from contextlib import closing

from sqlalchemy import text

from tests.support.invariants import check_invariants
from tests.support.processes import Commands
from tests.support.studies import create, states, trivial_study
from trialfleet.store import studies
from trialfleet.store.storage import Database

# Trials of a second or so, in many segments: long enough to be stopped in the middle.
STUDY = trivial_study(
    name="stopped", train_steps=2_000, eval_every=50, trials=2, top=1, final_seeds=1
)
REPORTED = text("""
    SELECT count(*) FROM public.trials t JOIN public.trial_intermediate_values USING (trial_id)
    WHERE t.state = 'RUNNING'
""")


def scalar(database: Database, statement: str) -> int:
    with database.transaction() as connection:
        return int(connection.scalar(text(statement)) or 0)


def test_a_stopped_run_gives_its_trials_back_and_goes_on_where_it_was(
    commands: Commands, database: Database
) -> None:
    file = commands.study_file(STUDY)
    run = commands.start("run", file, "--workers", "2", cold=True)

    def training() -> bool:
        with database.transaction() as connection:
            if connection.scalar(text("SELECT count(*) FROM fleet.studies")) == 0:
                return False
            return bool(connection.scalar(REPORTED))

    run.wait_until(training)
    run.send(signal.SIGINT)
    run.expect(130)
    assert "run the same command again" in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr

    study = studies.find(database, "stopped")
    stopped = states(database, study.search_id)
    assert stopped
    assert not [state for _, state in stopped if state == "RUNNING"]
    assert "WAITING" in {state for _, state in stopped}
    assert scalar(database, "SELECT count(*) FROM fleet.attempts WHERE ended_at IS NULL") == 0
    assert scalar(database, "SELECT count(*) FROM fleet.attempts WHERE outcome = 'lost'") == 0
    # Nobody is left behind that could go on with it.
    assert scalar(database, "SELECT count(*) FROM fleet.workers WHERE ended_at IS NULL") == 0
    # What was reported is kept with a checkpoint to go on from.
    checkpoints = scalar(database, "SELECT count(*) FROM fleet.checkpoints")
    assert checkpoints > 0

    again = commands.run("run", file, "--workers", "2")
    assert "winner: trial" in again.stdout
    check_invariants(database, "stopped")
    log = "".join(path.read_text() for path in (commands.folder / ".trialfleet" / "logs").iterdir())
    assert log.count("resumed") >= checkpoints
    # The interrupted trial's result is the one it would have had in one go.
    with database.transaction() as connection:
        interrupted = connection.scalar(
            text(
                "SELECT min(t.number) FROM fleet.attempts a JOIN public.trials t USING (trial_id) "
                "WHERE a.outcome = 'released'"
            )
        )
    commands.run("replay", "stopped", str(interrupted))


def test_a_stopped_worker_gives_its_trial_back(commands: Commands, database: Database) -> None:
    study = create(database, name="stopped", train_steps=40_000, eval_every=100, trials=1, top=1)
    worker = commands.start("worker", "stopped", cold=True)

    def training() -> bool:
        with database.transaction() as connection:
            return bool(connection.scalar(REPORTED))

    worker.wait_until(training)
    worker.send(signal.SIGTERM)
    worker.expect(143)
    assert states(database, study.search_id) == [(0, "WAITING")]
    assert "released" in worker.stderr
    assert "Traceback" not in worker.stderr


def test_a_stopped_coordinator_leaves_the_workers_to_their_trials(
    commands: Commands, database: Database
) -> None:
    file = commands.study_file(trivial_study(name="stopped", trials=2, top=1, final_seeds=1))
    coordinator = commands.start("coordinate", file, cold=True)

    def leading() -> bool:
        return scalar(database, "SELECT count(*) FROM fleet.leaders") == 1

    coordinator.wait_until(leading)
    coordinator.send(signal.SIGINT)
    coordinator.expect(130)
    assert "Traceback" not in coordinator.stderr
    # It has resigned: another one need not wait for its lease to run out.
    assert scalar(database, "SELECT count(*) FROM fleet.leaders") == 0

    worker = commands.start("worker", "stopped")
    again = commands.run("coordinate", file)
    worker.expect(0)
    assert "winner: trial" in again.stdout
    with closing(Database(database.url, application="tests")) as fresh:
        check_invariants(fresh, "stopped")


def test_a_coordinator_needs_nothing_of_what_its_study_trains(
    commands: Commands, database: Database
) -> None:
    """Only workers have the environment's packages."""
    file = commands.study_file(trivial_study(name="remote", env="only_on_workers:Env-v0"))
    coordinator = commands.start("coordinate", file)
    coordinator.wait_until(lambda: scalar(database, "SELECT count(*) FROM fleet.leaders") == 1)
    coordinator.send(signal.SIGTERM)
    coordinator.expect(143)
    assert studies.find(database, "remote").stage == "search"
