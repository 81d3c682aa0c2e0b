"""The dashboard's server: where it listens, what it refuses, how it ends.

optuna-dashboard is an extra; a page of the tests' own stands in for it, by the public entry.
"""

from __future__ import annotations

import re
import signal
import socket
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.support.processes import Commands

PAGE = """
def wsgi(storage, artifact_store=None):
    def page(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"page"]

    return page
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_it_serves_reads_only_and_ends_with_its_signal(commands: Commands, host: str) -> None:
    (commands.folder / "optuna_dashboard.py").write_text(PAGE)
    process = commands.start("dashboard", "--host", host, "--port", "0")
    process.wait_until(lambda: "dashboard: " in process.stderr)
    (url,) = re.findall(r"dashboard: (http://\S+/)", process.stderr)
    assert ("[::1]" in url) is (host == "::1")
    with urlopen(url) as answer:
        assert answer.status == 200
    with pytest.raises(HTTPError, match="403"):
        urlopen(Request(url, method="DELETE"))
    process.send(signal.SIGINT)
    process.expect(130)


def test_an_address_that_is_taken(commands: Commands) -> None:
    (commands.folder / "optuna_dashboard.py").write_text(PAGE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = commands.run("dashboard", "--port", str(port), code=2).error_line
    assert f"cannot listen on http://127.0.0.1:{port}/: Address already in use" in line
