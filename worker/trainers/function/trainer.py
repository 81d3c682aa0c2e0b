"""A function of the user's as a trainer: it runs in a thread of its own, and reports from there.

A report hands over to the worker's thread, which yields it as an event, and the function goes on
when the next event is asked for; so one of the two runs at any time. Only a worker that has to stop
does not wait for the next report.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trialfleet.study.returns import OutsideReturnsError
from trialfleet.training import Ended, Report, Reporter, Result, Run, all_finite, result_of
from worker.trainers.function.loading import find_function
from worker.trainers.function.models import as_arrays
from worker.trainers.protocol import (
    TRAINING_THREAD,
    Evaluation,
    Event,
    Job,
    NonFiniteError,
    Progress,
    Score,
    Waiting,
)

_LOOK = 0.1  # seconds between two looks of the worker's while the function works
_PATIENCE = 5.0  # seconds that a function which has to end is waited for

# Functions that did not end when they had to, as code that is not Python's may not.
_left: list[threading.Thread] = []


class Training(Reporter):
    """One call of the function; see `worker.trainers.protocol.Trainer`."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._function = find_function(job.objective)
        self._start, self._checkpoint = 0, b""
        self._reported = 0  # the step of the last report
        self._report: Report | None = None
        self._result: Result | None = None
        self._progress: int | None = None
        self._heard: SimpleQueue[Report | Result | BaseException] = SimpleQueue()
        self._go: SimpleQueue[bool] = SimpleQueue()
        self._turn = threading.Lock()  # guards the next two
        self._waiting: int | None = None  # the thread of the function's that waits for us
        self._ended = False
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._work, name=TRAINING_THREAD, daemon=True)

    def run(self) -> Generator[Event, None, None]:
        """Call the function; see `worker.trainers.protocol.Trainer`."""
        while _left and _left[0].is_alive():
            _left[0].join(_LOOK)
            yield Waiting(step=self._start)
        _left.clear()
        self._reported = self._start
        self._thread.start()
        try:
            while not isinstance(heard := (yield from self._next()), Result):
                yield self._evaluation(heard)
                with self._turn:
                    self._waiting = None
                    self._go.put(True)
            self._result = heard
            scores = np.asarray(heard.scores, np.float64)  # [S]
            if not all_finite(list(scores)):
                raise NonFiniteError(f"the score of {self._job.objective} is not finite")
            self._refuse_outside(scores.tolist(), "returns", self._reported)
            if not self._reported:  # a function that never reports is one segment
                step = self._reported = self._job.train_steps
                yield Evaluation(step=step, metrics={"return": scores})
            yield Score(step=self._reported, returns=scores)
        finally:
            self._end()

    def _next(self) -> Generator[Event, None, Report | Result]:
        """What the function says next; raises what it raised."""
        while True:
            with suppress(Empty):
                heard = self._heard.get(timeout=_LOOK)
                if isinstance(heard, BaseException):
                    raise heard
                return heard
            at, self._progress = self._progress, None
            yield Waiting(step=self._reported) if at is None else Progress(step=at)

    def _evaluation(self, report: Report) -> Evaluation:
        if not all_finite(report.values):
            raise NonFiniteError(
                f"a value that {self._job.objective} reports is not finite at step {report.step}"
            )
        self._refuse_outside(report.values, "reports", report.step)
        self._report, self._reported = report, report.step
        metrics = {"return": report.values, **report.metrics}
        return Evaluation(
            step=report.step,
            metrics={name: np.asarray(each, np.float64) for name, each in metrics.items()},
        )

    def _refuse_outside(self, values: Sequence[float], does: str, step: int) -> None:
        """Raise for the first seed's value [S] outside of the job's bounds."""
        bounds = self._job.returns
        if bounds is None or (seed := bounds.first_outside(values)) is None:
            return
        raise OutsideReturnsError(
            f"seed {self._job.seeds[seed]}: {self._job.objective} {does} {values[seed]:.12g}"
            f" at step {step}, outside of task.returns ({bounds}); declare bounds that hold for"
            " every seed"
        )

    # What follows runs in the function's thread.

    def _work(self) -> None:
        job = self._job
        run = Run(
            parameters=dict(job.knobs),
            seeds=list(job.seeds),
            train_steps=job.train_steps,
            eval_every=job.eval_every,
            device=job.device,
            final=job.final,
            start=self._start,
            checkpoint=self._checkpoint if self._start else None,
            reporter=self,
        )
        code = 1
        try:
            self._heard.put(result_of(self._function(run), len(job.seeds)))
            code = 0
        except BaseException as exc:
            self._heard.put(exc)
        finally:
            if os.getpid() != self._process:
                os._exit(code)  # a forked child that was not ended: the trial is its parent's

    def report(self, report: Report) -> None:
        """Hand a report to the worker, and wait until it says how to go on."""
        if self._ended:
            raise Ended
        if os.getpid() != self._process:
            raise RuntimeError(
                "a report from another process; make it in the one that called the function"
            )
        due = self._reported + self._job.eval_every
        if report.step != due or due > self._job.train_steps:
            raise ValueError(
                f"a report at step {report.step}, but the next is due at {due}: one after each "
                f"task.eval_every ({self._job.eval_every}) steps, up to {self._job.train_steps}"
            )
        with self._turn:
            if self._ended:
                raise Ended
            self._waiting = threading.get_ident()
            self._heard.put(report)
        if not self._go.get():
            raise Ended

    def progress(self, step: int) -> None:
        """Keep it for the worker's next look."""
        self._progress = min(max(int(step), self._reported), self._job.train_steps)

    # And this in the worker's again.

    def _end(self) -> None:
        """Have the function end, wherever it is."""
        if self._ended:
            return
        with self._turn:
            self._ended = True
            if self._waiting is not None:
                self._go.put(False)
            if self._waiting != self._thread.ident and self._thread.is_alive():
                # It hears this between two steps of its Python code, and so after the call that it
                # may be in of code that is not Python's.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._thread.ident or 0), ctypes.py_object(Ended)
                )

    @property
    def portable(self) -> bool:
        """Nothing is known of the function's arithmetic."""
        return False

    def state(self) -> dict[str, NDArray[Any]] | None:
        """The step, the seeds and the function's own bytes; None where it gave none."""
        if self._report is None or self._report.checkpoint is None:
            return None
        given = self._report.checkpoint
        data = given() if callable(given) else given
        if not isinstance(data, bytes):
            raise TypeError(f"a checkpoint is bytes, not {type(data).__name__}")
        return {
            "step": np.array(self._report.step),
            "seeds": np.array(self._job.seeds, np.int64),
            "checkpoint": np.frombuffer(data, np.uint8),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Give the function what it gave at that step."""
        content = state["checkpoint"]
        if content.dtype != np.uint8 or content.ndim != 1:
            raise ValueError("it is no state of a training of one's own")
        # Those of a trial's earlier attempt had 63 bits, if an earlier version made it.
        if state["seeds"].tolist() != list(self._job.seeds):
            raise ValueError("it is of a training with other seeds")
        start = int(state["step"])
        if start % self._job.eval_every or not 0 < start <= self._job.train_steps:
            raise ValueError(f"step {start} is no segment's end of this job")
        self._start, self._checkpoint = start, content.tobytes()

    def result(self) -> dict[str, NDArray[Any]]:
        """The models as arrays, where the function has returned some."""
        assert self._result is not None, "asked for before the end"
        return as_arrays(list(self._result.models), self._result.suffix)

    def close(self) -> None:
        """Wait for the function, for a while; the next training waits for what is left."""
        self._end()
        if self._thread.ident is not None:
            self._thread.join(_PATIENCE)
            if self._thread.is_alive():
                _left.append(self._thread)


make_trainer = Training
