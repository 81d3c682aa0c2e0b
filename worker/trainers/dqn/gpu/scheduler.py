"""Collects the same kind of work from several threads; one of them does it for all.

Each lane of a program (`worker.trainers.dqn.gpu.backend`) is trained by a thread of its own, which
also reports, and waits for the database. Once all of them have asked for the same kind of work,
whichever thread is there computes it for all of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Hashable, Iterator
from dataclasses import dataclass, field

# Seconds that lanes wait for one that is late: it reports, or looks for its next trial.
_PATIENCE = 0.25
# Seconds of work between two moments at which the thread that does it may be called away.
_STRETCH = 0.02
# Seconds between two moments at which a thread that waits says that it does.
_PAUSE = 0.05


@dataclass(eq=False)
class Request:
    """What a lane asks for."""

    lane: int
    kind: Hashable  # requests of one kind are done together
    since: float = field(default_factory=time.monotonic)
    withdrawn: bool = False  # nobody wants it any more; nothing more may be done for it
    done: bool = False
    error: BaseException | None = None


class Scheduler:
    """Has the requests of all lanes done.

    Args:
        lanes: How many there can be.
        work: Does requests of one kind, pausing often, and says at each pause how far it is. What
            is `withdrawn` at a pause it must not touch after it.
    """

    def __init__(self, lanes: int, work: Callable[[list[Request]], Iterator[int | None]]) -> None:
        self._work = work
        self._free = list(range(lanes))
        self._there: set[int] = set()
        self._requests: dict[int, Request] = {}  # by lane, those that are not done
        self._change = threading.Condition()
        self._computing = threading.Lock()  # held from one pause to the next
        self._group: list[Request] = []  # what is being done
        self._running: Iterator[int | None] | None = None  # which does it
        self._driver: Request | None = None  # whose thread goes on with it
        self._reached: int | None = None  # what it said last
        self._idle_since = time.monotonic()

    def enter(self) -> int | None:
        """A lane of one's own, or None where all are taken."""
        with self._change:
            if not self._free:
                return None
            lane = self._free.pop(0)
            self._there.add(lane)
            return lane

    def leave(self, lane: int) -> None:
        """Give the lane back."""
        with self._change:
            self._there.discard(lane)
            self._free.append(lane)
            self._change.notify_all()

    @property
    def empty(self) -> bool:
        """Whether nobody is there."""
        return not self._there

    def do(self, request: Request) -> Generator[int | None, None, None]:
        """See the request done: do it, or wait for who does; pausing often.

        Raises:
            BaseException: Whatever the work has raised.
        """
        with self._change:
            self._requests[request.lane] = request
            self._change.notify_all()
        try:
            while not request.done:
                if self._is_mine(request):
                    self._stretch()
                if not request.done:
                    yield self._reached if request in self._group else None
        finally:
            if not request.done:
                self._withdraw(request)
        if request.error is not None:
            raise request.error

    def _is_mine(self, request: Request) -> bool:
        """Whether the asking thread is to compute now; if not, it has waited a little."""
        with self._change:
            if self._driver is None and self._may_begin(request):
                self._driver = request
            if self._driver is request:
                return True
            self._change.wait(_PAUSE)
            return False

    def _may_begin(self, request: Request) -> bool:
        """Whether to go on with what runs, or to begin what has waited longest, for all of them."""
        if self._running is not None:
            return request in self._group
        oldest = min(self._requests.values(), key=lambda each: each.since)
        if request.kind != oldest.kind:
            return False
        late = time.monotonic() - max(oldest.since, self._idle_since) > _PATIENCE
        if not late and len(self._requests) < len(self._there):
            return False
        self._group = [each for each in self._requests.values() if each.kind == request.kind]
        self._running = self._work(self._group)
        return True

    def _stretch(self) -> None:
        """Work for a while."""
        until = time.monotonic() + _STRETCH
        try:
            with self._computing:
                while time.monotonic() < until:
                    assert self._running is not None, "it was begun before"
                    self._reached = next(self._running)
        except StopIteration:
            self._finish(None)
        except BaseException as error:
            self._finish(error)

    def _finish(self, error: BaseException | None) -> None:
        """What was being done has come to its end."""
        with self._change:
            for request in self._group:
                if not request.withdrawn:
                    del self._requests[request.lane]
                    request.done, request.error = True, error
            self._stop_running()

    def _withdraw(self, request: Request) -> None:
        """Take the request back, between two pauses of the work."""
        with self._computing, self._change:
            request.withdrawn = True
            self._requests.pop(request.lane, None)
            if self._driver is request:
                self._driver = None
            if self._group and all(each.withdrawn for each in self._group):
                self._stop_running()
            self._change.notify_all()

    def _stop_running(self) -> None:
        self._group, self._running, self._driver, self._reached = [], None, None, None
        self._idle_since = time.monotonic()
        self._change.notify_all()
