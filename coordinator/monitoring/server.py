"""`/metrics` and `/healthz` over HTTP, beside the coordinator and never in its way.

Both ask through connections of their own, and nobody who asks waits for long: a scrape that the
database does not answer is an error of that scrape.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from socket import AF_INET6
from typing import ClassVar

import structlog
from sqlalchemy import URL, text

from coordinator.exposure import BoundedServer, address
from coordinator.monitoring.asking import Asked
from trialfleet.errors import StudyNotFoundError, UsageError
from trialfleet.store.storage import Database

log = structlog.get_logger()

# Seconds to wait for the database: Prometheus gives a scrape up after ten.
_SCRAPE, _HEALTH = 8.0, 3.0
_SELECT_1 = text("SELECT 1")
_PLAIN = "text/plain; charset=utf-8"


class _Questions:
    """What the two paths ask, on one small pool of connections that is opened when first needed."""

    def __init__(self, url: URL, study: str | None, errors: Callable[[], int]) -> None:
        self._url, self._study, self._errors = url, study, errors
        self._lock = threading.Lock()
        self._database: Database | None = None
        self.figures = Asked(self._look, seconds=_SCRAPE)
        self.health = Asked(self._select_1, seconds=_HEALTH)

    def _open(self) -> Database:
        def no_pause(_seconds: float) -> None:
            raise TimeoutError

        with self._lock:
            if self._database is None:
                self._database = Database(
                    self._url, application="trialfleet-metrics", pause=no_pause
                )
            return self._database

    def _look(self):  # type: ignore[no-untyped-def]  # prometheus-client is an extra
        from coordinator.monitoring.exposition import look, look_at_all

        if self._study is None:
            return look_at_all(self._open(), errors=self._errors())
        return look(self._open(), self._study, errors=self._errors())

    def _select_1(self) -> bool:
        return bool(self._open().call(_SELECT_1))

    def close(self) -> None:
        with self._lock:
            if self._database is not None:
                self._database.close()


class _Server(BoundedServer, HTTPServer):
    questions: _Questions


class _ServerOnIPv6(_Server):
    address_family = AF_INET6


class _Handler(BaseHTTPRequestHandler):
    timeout = 10.0  # seconds for a client to send its request
    server: _Server
    server_version, sys_version = "trialfleet", ""
    _paths: ClassVar[dict[str, str]] = {"/metrics": "_metrics", "/healthz": "_healthz"}

    def do_GET(self) -> None:
        answer = self._paths.get(self.path.partition("?")[0])
        if answer is None:
            self._send(404, "there are /metrics and /healthz\n")
        else:
            getattr(self, answer)()

    def _metrics(self) -> None:
        from prometheus_client.exposition import choose_encoder

        try:
            figures = self.server.questions.figures.answer()
        except StudyNotFoundError as exc:
            self._send(503, f"{exc}\n")
        except Exception as exc:
            # An error's own text may hold a URL or a statement.
            log.debug("scrape failed", error=type(exc).__name__)
            self._send(503, "the database does not answer\n")
        else:
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._send(200, encode(figures).decode(), content_type)

    def _healthz(self) -> None:
        try:
            self.server.questions.health.answer()
        except Exception:
            self._send(503, "the database does not answer\n")
        else:
            self._send(200, "ok\n")

    def _send(self, status: int, body: str, content_type: str = _PLAIN) -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: somebody asks every few seconds."""


class MetricsServer:
    """Serves until closed.

    Args:
        url: The database's.
        study: The study's name; it need not exist yet. None for every study.
        host: Address to listen on.
        port: Port to listen on; 0: a free one.
        errors: How many errors of the database the coordinator has met.

    Raises:
        UsageError: The address cannot be had.
    """

    def __init__(
        self, url: URL, study: str | None, *, host: str, port: int, errors: Callable[[], int]
    ) -> None:
        kind = _ServerOnIPv6 if ":" in host else _Server
        try:
            self._server = kind((host, port), _Handler)
        except OSError as exc:
            where = address(host, port)
            raise UsageError(
                f"--metrics-port: cannot listen on {where}: {exc.strerror}; choose another"
            ) from exc
        self._server.questions = _Questions(url, study, errors)
        self.host, self.port = host, self._server.server_port
        threading.Thread(
            target=self._server.serve_forever, args=(0.2,), name="metrics", daemon=True
        ).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._server.questions.close()
