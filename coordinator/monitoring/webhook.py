"""Notices to a webhook: sent by a thread of their own, so that nobody waits for them.

What cannot be delivered is tried again a little later, then dropped. The URL may hold a secret: no
message has more of it than the host.
"""

from __future__ import annotations

import base64
import json
import queue
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import structlog

from trialfleet import __version__
from trialfleet.errors import UsageError

log = structlog.get_logger()

_WAITING = 100  # notices that may wait to be sent; more are dropped
_TIMEOUT = 5.0  # seconds for each step of a delivery: to connect, to send, to hear an answer
_PAUSES = (1.0, 4.0)  # seconds before a second and a third try
_GOODBYE = 3.0  # seconds at the end for what has not been sent yet


class _NoRedirects(HTTPRedirectHandler):
    """A notice goes where it was sent or nowhere: urllib would follow with a GET."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Webhook:
    """Where notices are posted, as JSON.

    Args:
        url: http:// or https://; a user and a password in it become Basic authentication.

    Raises:
        UsageError: It is no such URL.
    """

    def __init__(self, url: str) -> None:
        parts = split_url(url)
        self.host = parts.hostname or ""
        self._url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": f"trialfleet/{__version__}",
        }
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        self._queue: queue.Queue[Mapping[str, Any] | None] = queue.Queue(_WAITING)
        self._opener = build_opener(_NoRedirects)
        self._closing = threading.Event()
        self._warned = False
        self._thread = threading.Thread(target=self._deliver, name="notify", daemon=True)
        self._thread.start()

    def send(self, notice: Mapping[str, Any]) -> None:
        """Have a notice sent as soon as may be; returns at once."""
        try:
            self._queue.put_nowait(notice)
        except queue.Full:
            self._complain("more notices than can be sent")

    def close(self, patience: float = _GOODBYE) -> None:
        """Send what waits, for so many seconds at most."""
        deadline = time.monotonic() + patience
        self._closing.set()  # no pause between two tries from now on
        try:
            self._queue.put(None, timeout=patience)
        except queue.Full:
            return
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def _deliver(self) -> None:
        while (notice := self._queue.get()) is not None:
            problem = self._post(notice)
            for pause in _PAUSES:
                if problem is None or self._closing.wait(pause):
                    break
                problem = self._post(notice)
            if problem is not None:
                self._complain(problem)

    def _post(self, notice: Mapping[str, Any]) -> str | None:
        """What went wrong, without the URL; None if the notice has arrived."""
        try:
            body = json.dumps(notice).encode()
            request = Request(self._url, data=body, headers=self._headers, method="POST")  # noqa: S310
            with self._opener.open(request, timeout=_TIMEOUT):
                return None
        except HTTPError as exc:
            exc.close()
            return f"it answered HTTP {exc.code}"
        except URLError as exc:
            return f"{getattr(exc.reason, 'strerror', None) or type(exc.reason).__name__}"
        except Exception as exc:  # whatever it is, its text could hold the URL
            return type(exc).__name__

    def _complain(self, problem: str) -> None:
        """Say it once: a study of many trials would say it at every best one."""
        level = log.debug if self._warned else log.warning
        self._warned = True
        level("notices are lost", webhook=self.host, reason=problem)


def split_url(url: str) -> SplitResult:
    """The parts of a webhook's URL.

    Raises:
        UsageError: It is none.
    """
    try:
        parts = urlsplit(url)
        legal = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of its port, or its brackets
        legal = False
    # A space or a control character is refused by http.client, with the whole URL in the message.
    if not legal or not url.isascii() or any(c.isspace() or not c.isprintable() for c in url):
        raise UsageError(
            "--notify (or TRIALFLEET_NOTIFY): must be an http:// or https:// URL, "
            "percent-encoded where it needs to be"
        )
    return parts
