"""Notices reach a webhook, and a webhook that is slow, broken or away costs nobody any time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from structlog.testing import capture_logs

from coordinator.monitoring import webhook
from coordinator.monitoring.webhook import Webhook
from trialfleet.errors import UsageError
from trialfleet.postgres.waiting import wait_until

SECRET = "s3cr3t"


class Receiver(ThreadingHTTPServer):
    """Answers each notice with the next of `answers`, then 204; None: never."""

    daemon_threads = True

    def __init__(self, *answers: int | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = [*answers]
        self.got: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.closing = threading.Event()

    def url(self, login: str = "") -> str:
        """Its URL, with a secret in the path."""
        return f"http://{login}127.0.0.1:{self.server_port}/{SECRET}?token={SECRET}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.got.append(json.loads(self.rfile.read(length)))
        self.server.headers.append(dict(self.headers))
        answer = self.server.answers.pop(0) if self.server.answers else 204
        if answer is None:
            self.server.closing.wait()
            return
        self.send_response(answer)
        self.send_header("Location", self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def receiver(*answers: int | None) -> Iterator[Receiver]:
    server = Receiver(*answers)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_PAUSES", (0.01, 0.01))
    monkeypatch.setattr(webhook, "_TIMEOUT", 0.3)


def test_notices_arrive_in_order_as_json() -> None:
    with receiver() as server:
        hook = Webhook(server.url())
        for number in range(5):
            hook.send({"event": "best", "number": number})
        hook.close()
        assert [each["number"] for each in server.got] == [0, 1, 2, 3, 4]
        assert server.headers[0]["Content-Type"] == "application/json"


def test_a_login_in_the_url_becomes_basic_authentication() -> None:
    with receiver() as server:
        hook = Webhook(server.url("me:p%40ss@"))
        hook.send({})
        hook.close()
        assert server.headers[0]["Authorization"] == "Basic bWU6cEBzcw=="


def test_a_notice_that_failed_is_tried_again() -> None:
    with receiver(500, 503) as server, capture_logs() as logs:
        hook = Webhook(server.url())
        hook.send({"event": "end"})
        assert wait_until(lambda: len(server.got) == 3, 10, pause=0.01)
        hook.close()
        assert logs == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(500, "it answered HTTP 500"), (302, "it answered HTTP 302"), (None, "TimeoutError")],
)
def test_what_cannot_be_delivered_is_said_once_and_without_the_secret(
    answer: int | None, reason: str
) -> None:
    with receiver(*[answer] * 6) as server, capture_logs() as logs:
        hook = Webhook(server.url())
        hook.send({"event": "start"})
        hook.send({"event": "end"})
        assert wait_until(lambda: len(logs) == 2, 10, pause=0.01)
        hook.close()
        assert [(each["log_level"], each["reason"]) for each in logs] == [
            ("warning", reason),
            ("debug", reason),
        ]
        assert SECRET not in str(logs)
        assert "127.0.0.1" in str(logs)
        assert len(server.got) == 6


def test_nobody_waits_for_a_webhook_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_TIMEOUT", 60.0)
    with receiver(None) as server, capture_logs() as logs:
        hook = Webhook(server.url())
        began = time.monotonic()
        for number in range(300):
            hook.send({"number": number})
        sent = time.monotonic() - began
        hook.close(patience=0.1)
        assert sent < 1.0
        assert time.monotonic() - began < 5.0
        assert len(server.got) <= 1
        assert [each["log_level"] for each in logs][:2] == ["warning", "debug"]
        assert logs[0]["reason"] == "more notices than can be sent"


def test_nobody_waits_for_a_webhook_that_is_not_there() -> None:
    with receiver() as server:
        url = server.url()
    with capture_logs() as logs:
        hook = Webhook(url)
        hook.send({})
        assert wait_until(lambda: bool(logs), 10, pause=0.01)
        hook.close()
    assert logs[0]["reason"] == "Connection refused"


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://example.org/{SECRET}",
        f"file:///{SECRET}",
        SECRET,
        f"http:///{SECRET}",
        f"http://example.org:port/{SECRET}",
        f"http://example.org:99999/{SECRET}",
        f"http://[::1/{SECRET}",
        f"http://example.org/{SECRET} {SECRET}",
        f"http://example.org/{SECRET}\r\nX-Other: {SECRET}",
        f"http://exämple.org/{SECRET}",
    ],
)
def test_what_is_no_url_is_refused_without_being_told(url: str) -> None:
    with pytest.raises(UsageError, match=r"--notify .*http:// or https://") as refused:
        Webhook(url)
    assert SECRET not in str(refused.value)
    assert str(refused.value).isprintable()
