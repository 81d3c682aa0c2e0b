"""deploy/nginx.conf in a real nginx: nobody passes without a password, and the pages get none."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.faults.certificates import Authority
from trialfleet.postgres.waiting import wait_until

CONFIG = (Path(__file__).parents[2] / "deploy" / "nginx.conf").read_text(encoding="utf-8")
# Made by `htpasswd -nbB watcher secret`.
PASSWORDS = "watcher:$2y$05$A7nrqdtk2CKcQVjsuWkukedCDPi4Cq08vbXDbYBr97eQdXt4sg4A.\n"


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        told = f"{self.connection.getsockname()[1]} {self.path} {self.headers.get('Authorization')}"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(told.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def page() -> Iterator[int]:
    """A server that says what it was asked; its port."""
    with HTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Proxy:
    port: int
    dashboard: int
    tensorboard: int
    trust: ssl.SSLContext

    def get(self, path: str, password: str | None = None) -> str:
        request = Request(f"https://127.0.0.1:{self.port}{path}")
        if password is not None:
            word = b64encode(f"watcher:{password}".encode()).decode()
            request.add_header("Authorization", f"Basic {word}")
        with urlopen(request, context=self.trust, timeout=10) as answer:
            return str(answer.read().decode())


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("no nginx here")
    authority = Authority(tmp_path, "authority")
    authority.server("127.0.0.1")
    [pem] = tmp_path.glob("*.pem")
    (tmp_path / "passwords").write_text(PASSWORDS, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with page() as dashboard, page() as tensorboard:
        config = CONFIG
        for there, here in {
            "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "listen [::]:443 ssl;": "",
            "/etc/nginx/trialfleet/server.crt": str(pem),
            "/etc/nginx/trialfleet/server.key": str(pem),
            "/etc/nginx/trialfleet/passwords": str(tmp_path / "passwords"),
            "http://127.0.0.1:8080": f"http://127.0.0.1:{dashboard}",
            "http://127.0.0.1:6006": f"http://127.0.0.1:{tensorboard}",
        }.items():
            assert there in config
            config = config.replace(there, here)
        user = "user root;" if os.geteuid() == 0 else ""
        folders = " ".join(
            f"{kind}_temp_path {tmp_path / kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (tmp_path / "nginx.conf").write_text(
            f"{user} daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
            f"http {{ access_log off; {folders} {config} }}\n",
            encoding="utf-8",
        )
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [nginx, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")], stderr=log
            )
            try:
                assert wait_until(lambda: answers(port) or process.poll() is not None, 20.0)
                assert process.poll() is None, (tmp_path / "log").read_text()
                trust = ssl.create_default_context(cafile=str(authority.root))
                yield Proxy(port, dashboard, tensorboard, trust)
            finally:
                process.terminate()
                process.wait(20)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_nobody_passes_without_the_password_and_the_pages_never_see_it(proxy: Proxy) -> None:
    for path in ("/", "/dashboard/studies/1", "/api/studies", "/tensorboard/", "/artifacts/1/a"):
        for password in (None, "wrong"):
            with pytest.raises(HTTPError) as refused:
                proxy.get(path, password)
            assert refused.value.code == 401
    told = proxy.get("/dashboard/studies/1?x=1", "secret")
    assert told == f"{proxy.dashboard} /dashboard/studies/1?x=1 None"
    told = proxy.get("/tensorboard/data/runs", "secret")
    assert told == f"{proxy.tensorboard} /data/runs None"
