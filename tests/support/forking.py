"""`trialfleet` as a fork of a process that has done nothing but its imports.

Importing PyTorch and Optuna takes a worker seconds, and the tests start hundreds. Such a fork is a
process like any other: it has its own pid, session and parent, it is killed and stopped like one,
it ends with an exit code, and it runs `trialfleet` from its first line. What a test has to say of
imports, of an interpreter's settings or of a start from nothing, it says of one that was started.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[2]

Prepare = Callable[[], None]


class Forked:
    """A command of ours, with as much of `subprocess.Popen` as the tests use.

    Args:
        arguments: After `trialfleet`.
        folder: Its current folder.
        out: File for what it prints.
        err: File for its standard error.
        environment: All of it.
        prepare: Called in the new process before anything of ours.
    """

    def __init__(
        self,
        arguments: list[str],
        *,
        folder: Path,
        out: Path,
        err: Path,
        environment: dict[str, str],
        prepare: Prepare | None = None,
    ) -> None:
        for path in (out, err):
            path.touch()
        self._process = _context().Process(
            target=_run,
            args=(arguments, str(folder), str(out), str(err), environment, prepare),
            daemon=True,
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """Its exit code, the negative number of the signal that ended it, or None."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code; raises `subprocess.TimeoutExpired` if it has none in time."""
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired("trialfleet", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Signal it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.preloaded"])
    # The fork server takes its path from here: this repository, wherever else one is installed.
    os.environ["PYTHONPATH"] = str(ROOT)
    return context


def _run(
    arguments: list[str],
    folder: str,
    out: str,
    err: str,
    environment: dict[str, str],
    prepare: Prepare | None,
) -> None:
    """The body of a fork."""
    os.chdir(folder)
    for number, path in ((1, out), (2, err)):
        output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, number)
        os.close(output)
    _begin(arguments, environment)
    if prepare is not None:
        prepare()
    from trialfleet.cli.local import pool
    from trialfleet.cli.main import main

    # Its workers fork from itself: they are its children, as those that it would have started.
    pool.subprocess = _Subprocess  # type: ignore[assignment, attr-defined]
    main()


def hear_a_closed_terminal() -> None:
    """Undo for this child what `nohup` has done to the tests: a test sends it a SIGHUP."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _begin(arguments: list[str], environment: dict[str, str]) -> None:
    os.setsid()
    hear_a_closed_terminal()
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv = ["trialfleet", *arguments]


class _ForkedWorker(subprocess.Popen[bytes]):
    """A child that is a fork, where `subprocess` would start an interpreter."""

    def _execute_child(self, args: list[str], *more: Any) -> None:
        """Arguments as in Python 3.11 to 3.13; of these, what the pool makes use of."""
        kept, environment, pipes = more[3], more[5], more[9:15]
        interpreter, module, arguments = args[0], args[1:4], args[4:]
        assert (interpreter, module) == (sys.executable, ["-P", "-m", "trialfleet.cli"])
        self.pid = os.fork()
        if self.pid == 0:
            inputs = {"stdin": pipes[0], "out": pipes[3], "err": pipes[5]}
            _become(arguments, environment, kept=kept, **inputs)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


class _Subprocess:
    """Of the module `subprocess` what the pool uses."""

    Popen = _ForkedWorker
    DEVNULL = subprocess.DEVNULL
    TimeoutExpired = subprocess.TimeoutExpired


def _become(
    arguments: list[str],
    environment: dict[str, str],
    *,
    kept: Sequence[int],
    stdin: int,
    out: int,
    err: int,
) -> NoReturn:
    """Run the command in this fork of a `run` that may be anywhere, and never return there."""
    code = 1
    try:
        for number, descriptor in enumerate((stdin, out, err)):
            os.dup2(descriptor, number)
        # Locks and connections of the parent, which hold as long as anybody has them open.
        bounds = [2, *sorted(kept), os.sysconf("SC_OPEN_MAX")]
        for before, after in itertools.pairwise(bounds):
            os.closerange(before + 1, after)
        _begin(arguments, environment)
        from trialfleet.cli.main import main

        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
