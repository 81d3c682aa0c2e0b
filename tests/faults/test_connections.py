"""The way to the database, each way it can be wrong: rows 21 and 22 of the faults."""

from __future__ import annotations

import gc
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.faults.accounts import PASSWORD, SECRET, account, set_password
from tests.faults.certificates import DAY, Authority
from tests.faults.fleet import Fleet
from tests.faults.proxy import Proxy
from tests.faults.servers import through, unix_socket
from tests.support.commands import command
from tests.support.server import Server, plain
from tests.support.studies import create
from trialfleet.errors import DatabaseUnavailableError
from trialfleet.postgres.waiting import REPLY_TIMEOUT, set_reply_timeout
from trialfleet.store.storage import Database

BOUND = 8.0  # seconds; a name that nobody knows takes a resolver some of them


@pytest.fixture(scope="module")
def login(server: Server) -> Iterator[str]:
    with account(server, "mistrusted") as name:
        yield name


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"), "trusted")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"), "stranger")


class Way:
    """One way to the test's database: its URL, and what is made on purpose to be wrong with it."""

    def __init__(self, database_url: URL, login: str, trusted: Authority, other: Authority) -> None:
        self.direct = database_url.set(username=login, password=PASSWORD)
        self.trusted, self.other = trusted, other

    @contextmanager
    def tls(self, context: ssl.SSLContext | None, **options: str) -> Iterator[URL]:
        """Through a server with this certificate, which the client has to verify in full."""
        with Proxy(unix_socket(self.direct), tls=context) as proxy:
            query = {"sslmode": "verify-full", "sslrootcert": str(self.trusted.root), **options}
            yield through(self.direct, proxy).set(query=query)


@pytest.fixture
def way(database_url: URL, login: str, trusted: Authority, stranger: Authority) -> Way:
    return Way(database_url, login, trusted, stranger)


@contextmanager
def wrong_password(way: Way) -> Iterator[URL]:
    yield way.direct.set(password=PASSWORD + "x")


@contextmanager
def unknown_host(way: Way) -> Iterator[URL]:
    yield way.direct.set(host="no-such-host.invalid", query={})


@contextmanager
def refused_port(way: Way) -> Iterator[URL]:
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))  # bound, so that nobody else gets it, and nobody listens
        yield way.direct.set(host="127.0.0.1", port=unused.getsockname()[1], query={})


@contextmanager
def expired(way: Way) -> Iterator[URL]:
    with way.tls(way.trusted.server(since=-10 * DAY)) as url:
        yield url


@contextmanager
def not_yet_valid(way: Way) -> Iterator[URL]:
    with way.tls(way.trusted.server(since=10 * DAY)) as url:
        yield url


@contextmanager
def other_authority(way: Way) -> Iterator[URL]:
    with way.tls(way.other.server()) as url:
        yield url


@contextmanager
def other_host(way: Way) -> Iterator[URL]:
    with way.tls(way.trusted.server("db.example.org")) as url:
        yield url


@contextmanager
def no_tls(way: Way) -> Iterator[URL]:
    with way.tls(None) as url:
        yield url


@contextmanager
def silent(way: Way) -> Iterator[URL]:
    with Proxy(unix_socket(way.direct)) as proxy:
        proxy.stall()
        set_reply_timeout(1.0)
        try:
            yield through(way.direct, proxy)
        finally:
            set_reply_timeout(REPLY_TIMEOUT)


@contextmanager
def no_root(way: Way) -> Iterator[URL]:
    with way.tls(way.trusted.server(), sslrootcert="/no/such/root.crt") as url:
        yield url
        gc.collect()  # libpq has left the handshake half done, and the error keeps its connection


@contextmanager
def misspelt_mode(way: Way) -> Iterator[URL]:
    yield way.direct.set(host="127.0.0.1", query={"sslmode": "verify"})


@contextmanager
def misspelt_option(way: Way) -> Iterator[URL]:
    yield way.direct.set(host="127.0.0.1", query={"sslmod": "verify-full"})


# What the line says, and the exit code.
WRONG: dict[Callable[..., object], tuple[list[str], int]] = {
    wrong_password: (['password authentication failed for user "mistrusted"'], 5),
    unknown_host: (["at no-such-host.invalid", "could not translate host name"], 5),
    refused_port: (["at 127.0.0.1", "Connection refused"], 5),
    expired: (["certificate verify failed: certificate has expired"], 5),
    not_yet_valid: (["certificate verify failed: certificate is not yet valid"], 5),
    other_authority: (["certificate verify failed: unable to get local issuer certificate"], 5),
    other_host: (['"db.example.org"', 'does not match host name "127.0.0.1"'], 5),
    no_tls: (["server does not support SSL, but SSL was required"], 5),
    silent: (["no reply within 1 seconds"], 5),
    no_root: (['root certificate file "/no/such/root.crt" does not exist'], 2),
    misspelt_mode: (['invalid sslmode value: "verify"'], 2),
    misspelt_option: (['invalid connection option "sslmod"'], 2),
}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_21_each_wrong_way_has_a_line_of_its_own(
    way: Way,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrong: Callable[[Way], object],
) -> None:
    says, code = WRONG[wrong]
    with wrong(way) as url:  # type: ignore[attr-defined]
        monkeypatch.setenv("TRIALFLEET_DATABASE_URL", plain(url))
        started = time.monotonic()
        assert command("status") == code
        assert time.monotonic() - started < BOUND
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("trialfleet: ")
    assert captured.err.count("\n") == 1
    for words in says:
        assert words in captured.err
    others = [told[-1] for each, (told, _) in WRONG.items() if each is not wrong]
    assert not [words for words in others if words in captured.err]
    assert SECRET not in captured.err


def test_21_the_right_way_is_taken(way: Way) -> None:
    with (
        way.tls(way.trusted.server()) as url,
        closing(Database(url, application="tests")) as database,
    ):
        assert create(database).name == "trivial"


def test_21_what_a_server_said_matters_more_than_an_address_where_there_is_none(way: Way) -> None:
    # Many a name has an address of each kind, and its server listens on one of them.
    with way.tls(way.other.server()) as url, refused_port(way) as nobody:
        hosts = tuple(f"127.0.0.1:{each.port}" for each in (nobody, url, nobody))
        several = url.set(host=None, port=None, query={**url.query, "host": hosts})
        with pytest.raises(DatabaseUnavailableError) as failed:
            Database(several, application="tests")
    assert "certificate verify failed" in str(failed.value)
    assert "refused" not in str(failed.value)


@pytest.fixture
def careful(database_url: URL, login: str, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet whose password could be shown by mistake in many forms."""
    opened = Fleet(database_url.set(username=login, password=PASSWORD), tmp_path)
    yield opened
    opened.close()


def written_by(fleet: Fleet) -> str:
    """All that the processes said, what everybody sees of them, and all the database keeps."""
    files = [path.read_text(encoding="utf-8") for path in fleet.folder.rglob("*.log")]
    tables = fleet.rows("""
        SELECT schemaname || '.' || tablename AS name FROM pg_tables
        WHERE schemaname IN ('public', 'fleet') AND tablename <> 'blob_chunks'
    """)
    rows = [str(row) for table in tables for row in fleet.rows(f"SELECT * FROM {table.name}")]
    return "\n".join([*files, *rows])


def test_22_a_worker_with_such_a_password_works_and_shows_it_nowhere(careful: Fleet) -> None:
    careful.create(trials=2)
    worker = careful.worker(cold=True, steer="slow")
    careful.claimed(worker)
    visible = [Path(f"/proc/{worker.pid}/cmdline").read_text()]
    visible += [str(row) for row in careful.rows("SELECT * FROM pg_stat_activity")]
    worker.steer("")
    careful.ends()
    assert worker.ends() == 0
    everything = "\n".join([written_by(careful), *visible])
    assert "study ended" in everything
    assert SECRET not in everything


def test_22_nor_does_one_that_fails(careful: Fleet, server: Server, login: str) -> None:
    careful.create(trials=2)
    worker = careful.worker(steer="slow", outage_patience="0.5", log_format="json")
    careful.claimed(worker)
    # The password is changed behind its back, and its connections are ended.
    set_password(server, login, "another")
    try:
        worker.steer("block")
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE usename = '{login}' AND application_name = 'trialfleet-worker'"
        )
        worker.steer("")
        assert worker.ends() == 5, worker.output
    finally:
        set_password(server, login, PASSWORD)
    assert "password authentication failed" in worker.output
    assert "PostgreSQL was away" in worker.output
    # And one that has not even begun.
    late = careful.worker(url=careful.url.set(password=PASSWORD + "x"))
    assert late.ends() == 5, late.output
    broken = careful.worker(TRIALFLEET_DATABASE_URL=plain(careful.url).replace("//", "/", 1))
    assert broken.ends() == 2, broken.output
    everything = written_by(careful)
    assert SECRET not in everything
