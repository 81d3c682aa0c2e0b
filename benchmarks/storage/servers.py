"""What may stand between a worker and PostgreSQL: PgBouncer, or Optuna's gRPC proxy."""

from __future__ import annotations

import multiprocessing
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
from optuna.storages import RDBStorage, run_grpc_proxy_server

from trialfleet.postgres.cluster import Cluster
from trialfleet.postgres.embedded import binaries
from trialfleet.postgres.url import parse_url
from trialfleet.postgres.waiting import wait_until

_START = 30.0  # seconds
_CONFIGURATION = """
[databases]
{database} = host={host} port={port} dbname={database} user={user}
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {folder}
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 4000
"""


@contextmanager
def pgbouncer(url: str, *, connections: int) -> Iterator[str]:
    """The URL of PgBouncer in transaction pooling, which keeps so many connections to `url`.

    Args:
        url: Of an embedded server.
        connections: Of PostgreSQL's that all its clients share.
    """
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        raise SystemExit("pgbouncer is not installed (apt-get install pgbouncer)")
    own = parse_url(url)
    host = own.host or own.query["host"]
    folder = Path(tempfile.mkdtemp(prefix="bouncer-", dir="/tmp"))
    try:
        file = folder / "pgbouncer.ini"
        file.write_text(
            _CONFIGURATION.format(
                database=own.database,
                host=host,
                port=own.port or own.query.get("port", 5432),
                user=own.username,
                folder=folder,
                connections=connections,
            )
        )
        folder.chmod(0o777)
        file.chmod(0o644)
        # It refuses root, as PostgreSQL does.
        user = Cluster(folder, binaries()).user()
        with subprocess.Popen([program, "-q", file], cwd="/", **user) as process:
            try:
                through = own.set(port=6432, host=None, query={"host": str(folder)})
                text = through.render_as_string(hide_password=False)
                assert wait_until(lambda: _answers(text), _START), "PgBouncer does not answer"
                yield text
            finally:
                process.terminate()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _answers(url: str) -> bool:
    dsn = parse_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        psycopg2.connect(dsn).close()
    except psycopg2.OperationalError:
        return False
    return True


@contextmanager
def grpc_proxy(url: str) -> Iterator[int]:
    """The port of Optuna's gRPC proxy in front of stock Optuna's database `url`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    context = multiprocessing.get_context("spawn")  # gRPC does not outlive a fork
    process = context.Process(target=_serve, args=(url, port), daemon=True)
    process.start()
    try:
        assert wait_until(lambda: _listens(port), _START), "the gRPC proxy does not answer"
        yield port
    finally:
        process.kill()
        process.join()


def _serve(url: str, port: int) -> None:
    storage = RDBStorage(url, skip_table_creation=True)
    run_grpc_proxy_server(storage, host="127.0.0.1", port=port)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
