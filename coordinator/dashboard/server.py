"""optuna-dashboard on our database: it runs no DDL, and changes nothing unless that is allowed.

The dashboard has no authentication, so it is meant for the loopback address, or for a place behind
something that authenticates.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from coordinator.exposure import BoundedServer, address
from trialfleet.errors import UsageError
from trialfleet.store import studies
from trialfleet.store.storage import Database

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore

# The database refuses it whatever the address looks like; this is for a reason that is shown.
_RENAME = re.compile(r"/api/studies/(\d+)/rename/?")
_READING = ("GET", "HEAD", "OPTIONS")


class _Server(BoundedServer, WSGIServer):
    """One that closes what it cannot serve."""


class _ServerOnIPv6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    timeout = 30.0  # seconds for a client to send its request, and to take a piece of the answer

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the page asks for news every few seconds."""


class ReadOnly:
    """A WSGI application that answers 403 to whatever would change something.

    Args:
        app: The application behind it.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """One request."""
        if environ["REQUEST_METHOD"] in _READING:
            return self._app(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "application/json")])
        return [b'{"reason": "this dashboard is read-only; see DASHBOARD_WRITABLE"}']


class KeepsNames:
    """A WSGI application that answers 409 to whoever would rename a study of ours.

    optuna-dashboard renames by copying what Optuna knows of a study and deleting the study: the
    copy would be without its final stage, its workers and all that we know of it.

    Args:
        app: The application behind it.
        database: To know our studies by.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]], database: Database) -> None:
        self._app, self._database = app, database

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """One request."""
        renaming = _RENAME.fullmatch(environ.get("PATH_INFO", ""))
        if renaming is None or not studies.has_optuna_study(self._database, int(renaming[1])):
            return self._app(environ, start_response)
        start_response("409 Conflict", [("Content-Type", "application/json")])
        return [b'{"reason": "a study of Trialfleet keeps the name in its study file"}']


def make_app(
    database: Database, store: ArtifactStore, *, writable: bool
) -> Callable[..., Iterable[bytes]]:
    """The dashboard as a WSGI application.

    Raises:
        UsageError: The extra is not installed.
    """
    try:
        from optuna_dashboard import wsgi
    except ImportError as exc:
        raise UsageError('the dashboard is missing: pip install "trialfleet[dashboard]"') from exc
    app: Callable[..., Iterable[bytes]] = wsgi(database.optuna_storage(), artifact_store=store)
    return KeepsNames(app, database) if writable else ReadOnly(app)


def make_dashboard(
    database: Database, store: ArtifactStore, *, host: str, port: int, writable: bool
) -> WSGIServer:
    """A server that is bound and has not begun to serve.

    Raises:
        UsageError: The extra is not installed, or the address cannot be had.
    """
    app = make_app(database, store, writable=writable)
    try:
        kind = _ServerOnIPv6 if ":" in host else _Server
        return make_server(host, port, app, server_class=kind, handler_class=_Quiet)
    except OSError as exc:
        raise UsageError(f"cannot listen on {address(host, port)}: {exc.strerror}") from exc
