"""Trainings of one's own, as tests ask for them."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from trialfleet.training import Ended, Result, Run

heard: list[str] = []  # what the functions have noticed


def walk(run: Run) -> Result:
    """A random walk of each seed, which goes on from a checkpoint."""
    at = json.loads(run.checkpoint) if run.checkpoint else [0.0] * len(run.seeds)
    for step in run.steps:
        for number, seed in enumerate(run.seeds):
            at[number] += run.parameters["rate"] * (run.segment_seed(seed, step) % 1000)
        run.report(step, at, checkpoint=lambda: json.dumps(at).encode(), metrics={"moved": at})
    models = [json.dumps(each).encode() for each in at]
    return Result(scores=at, models=models, suffix=".json")


def constant(run: Run) -> float:
    """A score without a report."""
    return 7.0


def forgetful(run: Run) -> float:
    """Reports without checkpoints."""
    for step in run.steps:
        run.report(step, float(step))
    return 1.0


def stopping_early(run: Run) -> float:
    """Half of the reports."""
    run.report(run.eval_every, 1.0)
    return 2.0


def looping(run: Run) -> float:
    """Work without an end between two reports."""
    run.report(run.eval_every, 1.0, checkpoint=b"x")
    heard.append("loops")
    try:
        while True:
            sum(range(100))
    except Exception:
        heard.append("Exception")
    except Ended:
        heard.append("Ended")
        raise
    return 0.0


def stubborn(run: Run) -> float:
    """One that takes every end for a mistake, and goes on."""
    for step in run.steps:
        try:
            run.report(step, 1.0)
        except BaseException as exc:
            heard.append(type(exc).__name__)
    return 1.0


def reporting_late(run: Run) -> float:
    """A report when the test says so."""
    go.wait(60.0)
    try:
        run.report(run.eval_every, 1.0)
    except Ended:
        heard.append("Ended")
        raise
    return 1.0


def reporting_from_a_thread(run: Run) -> float:
    """A report from another thread than the function's, which works on meanwhile."""
    try:
        threading.Thread(target=lambda: run.report(run.eval_every, 1.0), daemon=True).start()
        while True:
            sum(range(100))
    except Ended:
        heard.append("Ended")
        raise


go = threading.Event()


def telling(run: Run) -> float:
    """Progress, then the end of the test's patience."""
    run.progress(3)
    deadline = time.monotonic() + 60
    while "go" not in heard and time.monotonic() < deadline:
        sum(range(1000))
    return 1.0


def returning(run: Run) -> Any:
    """What the test puts into its parameter."""
    return returned[0]


returned: list[Any] = []


def reporting(run: Run) -> float:
    """What the test says."""
    run.report(*returned[0], **returned[1])
    return 1.0


def failing(run: Run) -> float:
    """A mistake, three calls deep."""
    return _deep(run)


def _deep(run: Run) -> float:
    raise RuntimeError(f"no such thing for {len(run.seeds)} seeds")


def leaving(run: Run) -> float:
    """The end of the program."""
    sys.exit("bye")


not_callable = 3
