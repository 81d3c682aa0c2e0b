"""SIGTERM, SIGINT and SIGHUP as a request that is looked at between two steps of the work."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import FrameType

from trialfleet.processes import end_children

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopRequested(Exception):  # noqa: N818 - it is a request, not an error
    """The worker was asked to stop; the trial at hand is to be given back."""


class Stop:
    """Whether this process was asked to stop.

    Args:
        with_parent: Take the parent's death as a request, too.
    """

    def __init__(self, *, with_parent: bool = False) -> None:
        self._asked = False
        # Wakes whoever waits. A signal handler may interrupt `wait` at any point, also while that
        # holds a lock; a SimpleQueue is made for it, and a threading.Event would wait for itself.
        self._wake: SimpleQueue[None] = SimpleQueue()
        self.installed = False
        self._parent = os.getppid() if with_parent else None
        self.signal = signal.SIGTERM
        self._forking = threading.local()  # what the thread that forks has blocked otherwise

    def install(self) -> None:
        """Listen to SIGTERM, SIGINT and SIGHUP; a second SIGTERM or SIGINT ends the process.

        A closed terminal sends SIGHUP, more than once at times, and that is a SIGTERM here. Under
        `nohup`, which ignores it, it stays ignored.
        """
        self.installed = True
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._handle)
        os.register_at_fork(
            before=self._block, after_in_parent=self._unblock, after_in_child=self._uninstall
        )

    def _block(self) -> None:
        """Let signals wait while a child has our handlers, which would hear them for us."""
        self._forking.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)

    def _unblock(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._forking.blocked)

    def _uninstall(self) -> None:
        """Let a forked child end at a signal, as `multiprocessing` expects of its own."""
        for number in _SIGNALS:
            if signal.getsignal(number) == self._handle:
                usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                signal.signal(number, usual)
        self._unblock()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            number = signal.SIGTERM
        elif self._asked:
            end_children()
            os._exit(128 + number)
        self.signal = signal.Signals(number)
        self.ask()

    def ask(self) -> None:
        """Ask this process to stop, as a signal would."""
        self._asked = True
        self._wake.put(None)

    @property
    def asked(self) -> bool:
        """Whether to stop."""
        if self._parent is not None and os.getppid() != self._parent:
            self._asked = True
        return self._asked

    @property
    def exit_code(self) -> int:
        """What a process ended by this request exits with: 143 for SIGTERM, 130 for SIGINT."""
        return 128 + self.signal

    def check(self) -> None:
        """Return if nobody asked.

        Raises:
            StopRequested: Somebody did.
        """
        if self.asked:
            raise StopRequested

    def wait(self, seconds: float) -> None:
        """Pause for `seconds`, less if asked to stop meanwhile.

        Raises:
            StopRequested: Somebody asked.
        """
        self.check()
        with suppress(Empty):
            self._wake.get(timeout=seconds)
            self._wake.put(None)  # for who else waits
        self.check()
