"""Where a page without a password listens, and who can reach it there."""

from __future__ import annotations

import ipaddress
import socket
import threading
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any, ClassVar

from trialfleet.errors import UsageError


class BoundedServer(ThreadingMixIn):
    """A server with a thread for each connection, and a limit of both.

    Beyond `most` connections the oldest is closed for the next one, so whoever opens many and asks
    nothing keeps nobody out. Where their threads don't end, because what they ask for takes its
    time, the next one is refused.
    """

    daemon_threads = True
    most: ClassVar[int] = 64

    def __init__(self, *arguments: Any) -> None:
        self._open: dict[Any, bool] = {}  # by socket, in order: whether it has been told to close
        self._counting = threading.Lock()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread, or refuse it."""
        with self._counting:
            refused = len(self._open) >= 2 * self.most
            if not refused:
                self._open[request] = False
                left = [each for each, closed in self._open.items() if not closed]
                if len(left) > self.most:
                    self._open[left[0]] = True
                    with suppress(OSError):
                        left[0].shutdown(socket.SHUT_RDWR)
        if refused:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._counting:
            self._open.pop(request, None)
        super().shutdown_request(request)  # type: ignore[misc]  # of the server it is mixed into


def address(host: str, port: int) -> str:
    """The URL for a browser; IPv6 addresses stand in brackets there."""
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def refuse_unexpected(host: str, *, expose: bool, what: str) -> None:
    """Return if only this machine reaches the address, or if others are meant to.

    Args:
        host: Address to listen on.
        expose: Whether the user has said that others are to reach it.
        what: What whoever reaches it can do.

    Raises:
        UsageError: Others would reach it, and nobody has said so.
    """
    if not expose and not is_loopback(host):
        raise UsageError(
            f"--host {host}: whoever reaches this address {what}, without a password; "
            "--expose says that this is meant, docs/watching.md how to ask for a password"
        )


def warning(host: str, port: int, what: str) -> str | None:
    """What listening there exposes, in a line; None where only this machine reaches it.

    Args:
        host: Address to listen on.
        port: Port to listen on.
        what: What whoever reaches it can do.
    """
    if is_loopback(host):
        return None
    return (
        f"warning: {address(host, port)} asks for no password; whoever reaches it {what} "
        "(docs/watching.md: a proxy with a password)"
    )
