"""Processes that run other people's code: whatever such code starts ends with them.

A process that has a group for itself, as those have that a shell, a supervisor or we start, has a
watcher that ends the group when it dies in whatever way. In a group with others (`worker | tee log`
in a shell is one), and in a container, whose processes all end with its first, it ends what it has
started at its own end.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

# Waits until nobody has the other end of its input any more: the process that leads the group.
_WATCHER = 'read _; kill -s KILL -- "-$1"'
_watchers: list[subprocess.Popen[bytes]] = []


def end_children_with_us() -> None:
    """Have no process that this one starts outlive it; call it before any is started."""
    atexit.register(end_children)
    if os.getpgrp() != os.getpid() or os.getpid() == 1 or _shares_group():
        return
    # No file object: Python would close that at our end, before our exit code is ours to keep.
    watching, ours = os.pipe()
    try:
        watcher = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", _WATCHER, "watcher", str(os.getpid())],
            cwd="/",
            env={},
            stdin=watching,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # it is not in the group, and hears no signal of a terminal
        )
    except OSError:  # an image without a shell
        os.close(ours)
    else:
        _watchers.append(watcher)
        # A forked child has a copy of our end, and would be waited for. Its own children have none:
        # the number may be that of a file which it has opened.
        copies = [ours]

        def close_copy() -> None:
            if copies:
                os.close(copies.pop())

        os.register_at_fork(after_in_child=close_copy)
    finally:
        os.close(watching)


def _shares_group() -> bool:
    """Whether somebody else is in the group of this process, as far as Linux tells."""
    ours = os.getpid()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            # The name before may hold anything; then come state, parent, and group.
            fields = status.read_bytes().rpartition(b")")[2].split()
            if int(fields[2]) == ours and status.parent.name != str(ours):
                return True
    return False


def end_children() -> None:
    """Kill what this process has started in its session, and what that has, as far as Linux tells.

    Whoever has a session of its own, as the embedded server has, is meant to live on.
    """
    session = os.getsid(0)
    for pid in _descendants("self"):
        with suppress(OSError):
            if os.getsid(pid) == session:
                os.kill(pid, signal.SIGKILL)


def end_forks() -> None:
    """Kill the children of `multiprocessing`, whose end Python would wait for at ours."""
    if "multiprocessing" in sys.modules:
        import multiprocessing

        for child in multiprocessing.active_children():
            child.kill()


def _descendants(process: str) -> list[int]:
    found = []
    for listed in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            for pid in listed.read_text(encoding="ascii").split():
                found += [int(pid), *_descendants(pid)]
    return found


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a program came to its end."""

    code: int | None  # its exit code; None: it took too long, and was killed
    out: str
    err: str


def run_program(
    command: Sequence[str],
    *,
    patience: float,
    given: str = "",
    environment: Mapping[str, str] | None = None,
    pause: Callable[[float], object] = time.sleep,
) -> Ended:
    """Run a program to its end, or for so many seconds; whatever it has started ends with it.

    Args:
        command: The program and its arguments.
        patience: Seconds.
        given: Its standard input.
        environment: All of it; None: ours.
        pause: Called with the seconds to wait; may raise, and the program ends then, too.
    """
    # Files, because a pipe ends only when everybody has closed it whom the program has started.
    with tempfile.TemporaryFile() as given_file, tempfile.TemporaryFile() as out:  # noqa: SIM117
        with tempfile.TemporaryFile() as err:
            given_file.write(given.encode())
            given_file.seek(0)
            process = subprocess.Popen(  # noqa: S603
                command,
                env=None if environment is None else dict(environment),
                stdin=given_file,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            deadline = time.monotonic() + patience
            try:
                while process.poll() is None and time.monotonic() < deadline:
                    pause(0.02)
            finally:
                code = process.poll()
                end_group(process)
            return Ended(code=code, out=_text(out), err=_text(err))


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a group, and all of that."""
    with suppress(OSError):  # nobody is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
