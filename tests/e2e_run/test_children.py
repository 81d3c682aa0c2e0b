"""User code that forks, starts programs, or ends its own process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from coordinator.create import create_or_join
from tests.support.invariants import check_invariants
from tests.support.processes import Commands, Process
from tests.support.server import plain
from trialfleet.cli.local.pool import WorkerPool
from trialfleet.postgres.waiting import wait_until
from trialfleet.store import studies
from trialfleet.store.storage import Database
from trialfleet.study.file import parse

STUDY = """
name = "children"
[task]
objective = "starter:{function}"
seeds = 1
train_steps = 2
eval_every = 1
stall_seconds = {stall}
[parameters]
rate = {{ low = 0.5, high = 2.0 }}
[search]
trials = 2
max_attempts = 10
sampler = "random"
pruner = "none"
[final]
top = 1
race = false
seeds = 1
"""

STARTER = """
import multiprocessing, os, pathlib, signal, subprocess, sys, time

here = pathlib.Path(__file__).parent


def square(number):
    return number * number


def forking(run):
    context = multiprocessing.get_context("fork")
    # `with` ends it with `terminate`, which waits for its processes.
    with context.Pool(2) as pool:
        found = pool.map(square, [1, 2, 3])
    child = context.Process(target=run.report, args=(1, 1.0))
    child.start()
    child.join()
    assert child.exitcode == 1
    pid = os.fork()
    if pid == 0:
        return 7.0
    assert os.waitpid(pid, 0)[1] == 0
    for step in run.steps:
        run.report(step, float(sum(found)))
    return 14.0


def note(word, pid):
    (here / f"{word}.new").write_text(str(pid))
    (here / f"{word}.new").rename(here / f"{word}.pid")


def leaving(run):
    child = os.fork()
    if child == 0:
        time.sleep(600)
    note("fork", child)
    program = subprocess.Popen(["sleep", "600"])
    note("program", program.pid)
    while not (here / "go").exists():
        time.sleep(0.01)
        run.progress(0)
    os._exit(0)


def exiting(run):
    for code in (2, 3, 130):
        told = here / f"exit-{code}"
        if not told.exists():
            told.write_text("")
            run.report(1, 1.0)
            os._exit(code)
    for step in run.steps:
        run.report(step, 1.0)
    return 1.0


"""


def study_of(commands: Commands, function: str, *, stall: float = 0) -> str:
    """A study file whose trials call that function."""
    (commands.folder / "starter.py").write_text(STARTER)
    return STUDY.format(function=function, stall=stall)


def alive(pid: int) -> bool:
    """Whether a process runs: not one that has ended and is yet to be waited for."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def values(database: Database) -> list[float]:
    with database.transaction() as connection:
        found = connection.execute(text("SELECT value FROM public.trial_values ORDER BY 1"))
        return [float(value) for value in found.scalars()]


def test_a_training_may_fork(commands: Commands, database: Database) -> None:
    """A pool ends with `terminate`, a fork that returns to us leaves the trial and its lease."""
    study = commands.study_file(study_of(commands, "forking", stall=20))
    run = commands.run("run", study, "--workers", "1", cold=True)
    assert "worker died" not in run.stderr
    assert values(database) == [14.0] * 3
    with database.transaction() as connection:
        attempts = connection.execute(text("SELECT outcome FROM fleet.attempts")).scalars().all()
    assert attempts == ["finished"] * 3
    check_invariants(database, "children")


def test_an_exit_code_of_user_code_ends_no_run(commands: Commands, database: Database) -> None:
    """Codes that are hopeless where we end a worker with them are a death like any other."""
    study = commands.study_file(study_of(commands, "exiting"))
    run = commands.run("run", study, "--workers", "1", env={"TRIALFLEET_LEASE_SECONDS": "1"})
    assert run.stderr.count("worker died") == 3
    assert studies.find(database, "children").stage == "done"
    check_invariants(database, "children")


def test_a_worker_that_died_is_known_by_its_name(
    commands: Commands, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Host name and process id come again in a container that is started anew."""
    create_or_join(database, parse(study_of(commands, "exiting"), source="children.toml"))
    monkeypatch.chdir(commands.folder)
    asked: list[str] = []

    def got_somewhere(name: str) -> bool:
        asked.append(name)
        return True

    url = plain(database.url)
    pool = WorkerPool(url, "children", count=1, logs=Path(), got_somewhere=got_somewhere)

    def died() -> bool:
        pool.tend()
        return bool(asked)

    try:
        assert wait_until(died, 60.0, pause=0.05)
    finally:
        pool.stop()
    with database.transaction() as connection:
        workers = connection.execute(text("SELECT worker FROM fleet.attempts")).scalars().all()
    assert asked[0] in workers


def started_by(folder: Path, process: Process) -> list[int]:
    """The processes that the function has started, both there."""
    paths = [folder / f"{word}.pid" for word in ("fork", "program")]
    process.wait_until(lambda: all(path.exists() for path in paths))
    pids = [int(path.read_text()) for path in paths]
    assert all(map(alive, pids))
    return pids


@pytest.mark.parametrize("end", ["kill", "stop", "stop twice", "exit"])
@pytest.mark.parametrize("session", ["its own", "another's"])
def test_what_a_trial_starts_ends_with_its_worker(
    commands: Commands, database: Database, end: str, session: str
) -> None:
    if session == "another's" and end in ("kill", "exit"):
        pytest.skip("a worker that is killed in somebody else's process group leaves that alone")
    create_or_join(database, parse(study_of(commands, "leaving"), source="children.toml"))
    # A command that is started as a shell does leads a process group; one of a script's does not.
    worker = commands.start("worker", "children", cold=session == "another's")
    pids = started_by(commands.folder, worker)
    try:
        assert (os.getpgid(worker.pid) == worker.pid) == (session == "its own")
        match end:
            case "kill":
                worker.send(signal.SIGKILL)
            case "stop":
                worker.send(signal.SIGTERM)
            case "stop twice":
                worker.send(signal.SIGTERM)
                worker.send(signal.SIGTERM)
            case "exit":
                (commands.folder / "go").write_text("")
        worker.wait()
        assert wait_until(lambda: not any(map(alive, pids)), 20.0, pause=0.02), pids
    finally:
        for pid in filter(alive, pids):
            os.kill(pid, signal.SIGKILL)


def test_a_run_leaves_nothing_of_its_workers(commands: Commands, database: Database) -> None:
    study = commands.study_file(study_of(commands, "leaving"))
    run = commands.start("run", study, "--workers", "1")
    pids = started_by(commands.folder, run)
    run.send(signal.SIGINT)
    try:
        assert run.wait() == 130
        assert wait_until(lambda: not any(map(alive, pids)), 20.0, pause=0.02), pids
    finally:
        for pid in filter(alive, pids):
            os.kill(pid, signal.SIGKILL)


LEADER = """
import sys
from trialfleet import processes
sys.stdin.readline()
processes.end_children_with_us()
print(*(each.pid for each in processes._watchers), file=sys.stderr, flush=True)
print("the last line", flush=True)
"""
READER = """
import os, sys
told = int(sys.argv[1])
lines = sys.stdin.read()
os.read(told, 1)
print(lines, end="", flush=True)
"""


def test_who_reads_what_a_worker_prints_outlives_it() -> None:
    """`trialfleet worker STUDY | tee log` is one process group, which the worker leads."""
    waits, goes = os.pipe()
    prints, into = os.pipe()
    pipe = subprocess.PIPE
    leader = subprocess.Popen(
        [sys.executable, "-c", LEADER], stdin=pipe, stdout=into, stderr=pipe, process_group=0
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(waits)],
        stdin=prints,
        stdout=pipe,
        pass_fds=[waits],
        process_group=leader.pid,
    )
    for descriptor in (waits, prints, into):
        os.close(descriptor)
    _, told = leader.communicate(b"begin\n", timeout=60)
    watchers = [int(pid) for pid in told.split()]
    assert wait_until(lambda: not any(map(alive, watchers)), 60)
    os.close(goes)
    printed, _ = reader.communicate(timeout=60)
    assert (reader.returncode, printed) == (0, b"the last line\n")


FORKING_TWICE = """
import os
from trialfleet import processes
processes.end_children_with_us()


def code_of(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


child = os.fork()
if child == 0:
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]
    grandchild = os.fork()
    if grandchild == 0:
        for each in opened:
            os.fstat(each)
        os._exit(0)
    os._exit(code_of(grandchild))
os._exit(code_of(child))
"""


def test_what_a_forked_child_opens_its_own_children_have_too() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FORKING_TWICE],
        capture_output=True,
        start_new_session=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr.decode()) == (0, "")
