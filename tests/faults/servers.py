"""A PostgreSQL that a test may stop, crash, and start with other settings."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from sqlalchemy import URL

from tests.faults.proxy import Proxy
from tests.support.server import Server, temporary_server
from trialfleet.postgres.cluster import Cluster
from trialfleet.postgres.embedded import binaries


def unix_socket(url: URL) -> Path:
    """The socket that an embedded server's URL means."""
    host = url.query["host"]
    assert isinstance(host, str)
    return Path(host) / ".s.PGSQL.5432"


def through(url: URL, proxy: Proxy) -> URL:
    """The same database by way of the proxy."""
    return url.set(host="127.0.0.1", port=proxy.port, query={})


class OwnServer:
    """A running server, and pg_ctl for it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        # As it was started.
        self._options = f'-h "" -k {unix_socket(server.url).parent}'

    def stop(self, mode: Literal["fast", "immediate"]) -> None:
        """Stop it: `fast` ends every session in order, `immediate` is a crash."""
        self._pg_ctl("stop", "-w", "-m", mode)

    def start(self, **settings: str) -> None:
        """Start it, with settings that last until the next start."""
        # What is acknowledged must survive a crash of PostgreSQL here.
        settings = {"synchronous_commit": "on", **settings}
        extra = "".join(f" -c {name}={value}" for name, value in settings.items())
        self._pg_ctl(
            "start", "-w", "-l", str(self.server.data / "log"), "-o", self._options + extra
        )

    def restart(self, **settings: str) -> None:
        """Stop and start it."""
        self.stop("fast")
        self.start(**settings)

    def running(self) -> bool:
        """Whether it runs."""
        return (self.server.data / "postmaster.pid").exists()

    def _pg_ctl(self, *arguments: str) -> None:
        subprocess.run(
            [binaries() / "pg_ctl", "-D", str(self.server.data), *arguments],
            check=True,
            **Cluster(self.server.data, binaries()).user(),
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )


@contextmanager
def own_server() -> Iterator[OwnServer]:
    """A server apart from the session's."""
    with temporary_server() as server:
        own = OwnServer(server)
        own.restart()
        yield own
