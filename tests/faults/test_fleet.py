"""One fleet and several studies: workers and a coordinator that none of them was started for."""

from __future__ import annotations

import signal
from datetime import datetime
from functools import partial

import optuna
import pytest

from tests.faults.fleet import STEERED, Fleet
from tests.faults.processes import Process, eventually
from tests.support.invariants import check_invariants
from tests.support.studies import trivial_study


def test_a_fleet_stays_up_while_studies_come_and_go(fleet: Fleet) -> None:
    coordinator = fleet.start("coordinate", "--all", "--out", "models")
    worker = fleet.worker(study=None)
    for names in (["one", "two"], ["three"]):
        for name in names:
            submit(fleet, name, trials=2)
        for name in names:
            ended(fleet, name)
            check_invariants(fleet.database, name)
            eventually(
                (fleet.folder / "models" / f"{name}.json").is_file, f"the agent of {name} is saved"
            )
    for process in (worker, coordinator):
        assert process.code is None, process.output
        process.send(signal.SIGTERM)
        assert process.ends() == 143


@pytest.mark.slow
@pytest.mark.timeout(1_500)
def test_two_studies_of_different_priority_share_four_workers_and_two_are_killed(
    fleet: Fleet,
) -> None:
    submit(fleet, "a", priority=3, trials=24)
    submit(fleet, "b", priority=1, trials=8)
    fleet.start("coordinate", "--all")
    workers = [fleet.worker(study=None, steer="slow", name=f"worker-{n}") for n in range(4)]
    eventually(lambda: len(attempts(fleet)) >= 12, "twelve trials have begun", within=300.0)
    for name in "ab":
        victim = eventually(partial(at_work, fleet, workers, name), f"{name} is served")
        assert victim is not None
        victim.kill()
        workers.remove(victim)
        workers.append(fleet.worker(study=None, steer="slow", name=f"{victim.name}-again"))
    for name in "ab":
        ended(fleet, name, within=900.0)
        check_invariants(fleet.database, name)
    lost = {name for name, *_, outcome in attempts(fleet) if outcome == "lost"}
    assert lost == {"a", "b"}
    seconds = shares(fleet)
    ratio = seconds["a"] / seconds["b"]
    print(f"worker-seconds {seconds}, ratio {ratio:.2f}, asked 3")
    assert 2.3 < ratio < 3.9


def submit(fleet: Fleet, name: str, *, priority: int = 1, trials: int) -> None:
    file = fleet.folder / f"{name}.toml"
    fields = {**STEERED, "name": name, "trials": trials}
    file.write_text(trivial_study(**fields), encoding="utf-8")
    process = fleet.start("submit", str(file), "--priority", str(priority))
    assert process.ends() == 0, process.output


def ended(fleet: Fleet, name: str, *, within: float = 100.0) -> None:
    def done() -> bool:
        (row,) = fleet.rows("SELECT stage FROM fleet.studies WHERE name = :name", name=name)
        assert row.stage != "failed", fleet.picture()
        return bool(row.stage == "done")

    eventually(done, f"{name} is done", within=within)


def attempts(fleet: Fleet) -> list[tuple[str, int | None, datetime, datetime | None, str | None]]:
    """Study, process, begin, end and outcome of every attempt of the searches, oldest first."""
    query = """
        SELECT s.name, w.pid, a.claimed_at, a.ended_at, a.outcome FROM fleet.studies s
        JOIN public.trials t ON t.study_id = s.search_id JOIN fleet.attempts a USING (trial_id)
        LEFT JOIN fleet.workers w USING (worker) ORDER BY a.fence
    """
    return [tuple(row) for row in fleet.rows(query)]


def at_work(fleet: Fleet, workers: list[Process], study: str) -> Process | None:
    """A worker that has a trial of the study."""
    busy = {pid for name, pid, _, end, _ in attempts(fleet) if name == study and end is None}
    return next((worker for worker in workers if worker.pid in busy), None)


def shares(fleet: Fleet) -> dict[str, float]:
    """Worker-seconds of each study, from all four at work to one with no more trials to begin."""
    rows = attempts(fleet)
    begin = rows[3][2]
    end = min(max(row[2] for row in rows if row[0] == name) for name in "ab")
    seconds = dict.fromkeys("ab", 0.0)
    for name, _, started, stopped, _ in rows:
        overlap = (min(stopped or end, end) - max(started, begin)).total_seconds()
        seconds[name] += max(0.0, overlap)
    return seconds


def test_a_study_that_its_coordinator_cannot_keep_leaves_the_others_alone(fleet: Fleet) -> None:
    coordinator = fleet.start("coordinate", "--all")
    fleet.worker(study=None)
    submit(fleet, "broken", trials=2)
    submit(fleet, "foreign", trials=2)
    fleet.execute("""
        CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN RAISE EXCEPTION ''nobody has foreseen it'' USING ERRCODE = ''XX000''; END';
        CREATE TRIGGER refuse BEFORE UPDATE ON fleet.studies FOR EACH ROW
            WHEN (new.name = 'broken' AND new.stage <> 'search')
            EXECUTE FUNCTION public.refuse()
    """)
    storage = optuna.storages.RDBStorage(
        fleet.url.render_as_string(hide_password=False), skip_table_creation=True
    )
    optuna.load_study(study_name="foreign", storage=storage).enqueue_trial({"gamma": 2.0})
    ended(fleet, "foreign")
    coordinator.says("nobody has foreseen it")
    submit(fleet, "later", trials=2)
    ended(fleet, "later")
    assert "Traceback (most recent call last)" in coordinator.output
    assert coordinator.output.count("cannot keep a study going") == 1
    for name in ("foreign", "later"):
        check_invariants(fleet.database, name)
    fleet.execute("DROP TRIGGER refuse ON fleet.studies")
    ended(fleet, "broken")
    check_invariants(fleet.database, "broken")
    assert coordinator.code is None, coordinator.output
