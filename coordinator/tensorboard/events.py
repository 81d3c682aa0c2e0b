"""The event files of one run, by the tensorboard package's own writer: no TensorFlow, no torch.

A file only grows. Where a trial begins anew at an earlier step, a SessionLog START says so, and
TensorBoard drops the points from that step on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.backend.event_processing import event_file_loader
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter

FILES = "events.out.tfevents.*"
SCORE = "Score"
ONCE = frozenset({SCORE})  # scalars that are no points of a curve
_STARTED, _ENDED = "_hparams_/session_start_info", "_hparams_/session_end_info"
_LARGEST = float(np.finfo(np.float32).max)
Point = Mapping[str, float]  # value by tag


class RunFiles:
    """One run's folder: what it holds already, and what is added to it.

    Args:
        folder: Made with the first event.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.points: dict[int, dict[str, float]] = {}  # by step
        self.tags: set[str] = set()  # of all that is there
        self._writer: Any = None
        self._begun = False
        for path in sorted(folder.glob(FILES)):
            # A process that was killed may have left its last record half-written.
            with suppress(EOFError):
                for event in event_file_loader.EventFileLoader(str(path)).Load():
                    self._read(event)

    @property
    def last(self) -> int:
        """The last step that has a point; -1 for none."""
        return max(self.points, default=-1)

    @property
    def ended(self) -> bool:
        """Whether its ending is in it."""
        return _ENDED in self.tags

    @property
    def started(self) -> bool:
        """Whether the run's hyperparameters are in it."""
        return _STARTED in self.tags

    def begin_at(self, wanted: Mapping[int, Point]) -> None:
        """Drop the points from the first one on that is not among those wanted, value for value."""
        for step in sorted(self.points):
            if _bits(self.points[step]) != _bits(wanted.get(step, {})):
                self._write(_start(step))
                self._drop(step)
                return

    def add(self, step: int, point: Point) -> None:
        """Add a point of finite values, after all that are there."""
        finite = {tag: value for tag, value in point.items() if math.isfinite(value)}
        if finite:
            self.points[step] = finite
            self.put(step, [_scalar(tag, value) for tag, value in finite.items()])

    def put(self, step: int, values: Iterable[summary_pb2.Summary.Value]) -> None:
        """Add values of any plugin."""
        summary = summary_pb2.Summary(value=values)
        self.tags.update(value.tag for value in summary.value)
        self._write(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))

    def score(self, step: int, tag: str, value: float) -> None:
        """Add a number that belongs to no evaluation, unless it is there."""
        if tag not in self.tags and math.isfinite(value):
            self.put(step, [_scalar(tag, value)])

    def flush(self) -> None:
        """Let everybody see what was added."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Give the file back; another event opens the next one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def remove(self) -> None:
        """Remove the event files, and the folder if nothing else is in it."""
        self.close()
        for path in self.folder.glob(FILES):
            path.unlink()
        with suppress(OSError):
            self.folder.rmdir()
            if self.folder.name.startswith("seed-"):
                self.folder.parent.rmdir()

    def _write(self, event: event_pb2.Event) -> None:
        if self._writer is None:
            self._writer = EventFileWriter(str(self.folder))
        if not self._begun:
            # TensorBoard takes a run's first START for its beginning, and drops nothing there.
            self._begun = True
            self._writer.add_event(_start(0))
        self._writer.add_event(event)

    def _drop(self, step: int) -> None:
        self.points = {each: point for each, point in self.points.items() if each < step}

    def _read(self, event: event_pb2.Event) -> None:
        if event.session_log.status == event_pb2.SessionLog.START:
            self._begun = True
            self._drop(event.step)
        for value in event.summary.value:
            plugin = value.metadata.plugin_data.plugin_name
            if plugin == "scalars" and value.tag not in ONCE:
                number = float(value.tensor.float_val[0])
                self.points.setdefault(event.step, {})[value.tag] = number
            self.tags.add(value.tag)


def _start(step: int) -> event_pb2.Event:
    log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    return event_pb2.Event(wall_time=time.time(), step=step, session_log=log)


def _scalar(tag: str, value: float) -> summary_pb2.Summary.Value:
    return summary_pb2.Summary.Value(tag=tag, simple_value=_single(value))


def _single(value: float) -> float:
    """The nearest number that an event file keeps: finite, in single precision."""
    return float(np.float32(min(max(value, -_LARGEST), _LARGEST)))


def _bits(point: Point) -> dict[str, float]:
    """As an event file keeps it: finite, in single precision."""
    return {tag: _single(v) for tag, v in point.items() if math.isfinite(v)}
