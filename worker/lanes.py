"""Several lanes in one process: each is a whole worker, with a thread of its own.

Every lane has its lease, its heartbeat, its connections and its row in `fleet.workers`. They share
the process, and on a GPU the program that trains their trials (`worker.trainers.dqn.gpu`).
"""

from __future__ import annotations

from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from worker.loop import Worker
from worker.stop import Stop, StopRequested


@dataclass
class Lanes:
    """The workers of this process.

    Args:
        stop: Of all of them.
    """

    stop: Stop
    workers: list[Worker] = field(default_factory=list)

    def abandon(self) -> None:
        """Give every trial back: one lane's trainer does not return, and the process ends."""
        for worker in self.workers:
            worker.abandon()

    def run(self) -> None:
        """Run them all until the study has ended; if one cannot go on, the others stop, too.

        Raises:
            StopRequested: A stop was asked for; every trial at hand has been given back.
            FleetError: What one of them ended with.
        """
        if len(self.workers) == 1:
            self.workers[0].run()
            return
        with ThreadPoolExecutor(len(self.workers), thread_name_prefix="lane") as pool:
            running = [pool.submit(worker.run) for worker in self.workers]
            # A signal is handled by the thread that waits here.
            others = wait(running, return_when=FIRST_EXCEPTION).not_done
            if others:
                self.stop.ask()
                wait(others)
        errors = [error for each in running if (error := each.exception()) is not None]
        own = [error for error in errors if not isinstance(error, StopRequested)]
        for error in own or errors:
            raise error
