"""Run queries in a background thread; callers share the result and wait a limited time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Asked(Generic[T]):
    """One question that is under way once at a time, in a thread of its own.

    Who asks while it is under way waits for the same answer, so however many ask, and however long
    the database takes, there is one thread and one connection.

    Args:
        question: Asks; may raise.
        seconds: How long anybody waits for the answer.
    """

    def __init__(self, question: Callable[[], T], *, seconds: float) -> None:
        self._question, self._seconds = question, seconds
        self._lock = threading.Lock()
        self._under_way: Future[T] | None = None

    def answer(self) -> T:
        """The answer.

        Raises:
            TimeoutError: There is none in time.
        """
        with self._lock:
            if self._under_way is None or self._under_way.done():
                self._under_way = Future()
                threading.Thread(target=self._ask, args=(self._under_way,), daemon=True).start()
            asked = self._under_way
        return asked.result(self._seconds)

    def _ask(self, future: Future[T]) -> None:
        try:
            future.set_result(self._question())
        except BaseException as exc:
            future.set_exception(exc)
