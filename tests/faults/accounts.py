"""A login that needs its password, on a server that trusts everybody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from tests.faults.processes import eventually
from tests.support.server import Server

# Every way of writing the password down leaves this part of it as it is.
SECRET = "hunter2"
# Around it everything that a URL, str.format, a shell or a log could stumble over.
PASSWORD = "{}%@:/ {0}%7B%s'\"\\?#$(id)" + SECRET + "{x}%c@d:e/f g"


@contextmanager
def account(server: Server, name: str) -> Iterator[str]:
    """The name of a superuser that must give PASSWORD to log in."""
    rules = server.data / "pg_hba.conf"
    trusting = rules.read_text(encoding="utf-8")
    set_password(server, name, PASSWORD, statement="CREATE ROLE {} LOGIN SUPERUSER PASSWORD {}")
    rules.write_text(f"local all {name} scram-sha-256\n{trusting}", encoding="utf-8")
    server.execute("SELECT pg_reload_conf()")
    wrong = create_engine(server.url.set(username=name, password="wrong"), poolclass=NullPool)

    def refused() -> bool:
        try:
            wrong.connect().close()
        except OperationalError:
            return True
        return False

    eventually(refused, f"{name} needs a password")
    try:
        yield name
    finally:
        rules.write_text(trusting, encoding="utf-8")
        server.execute("SELECT pg_reload_conf()")
        server.execute(f"DROP ROLE {name}")


def set_password(
    server: Server, name: str, password: str, *, statement: str = "ALTER ROLE {} PASSWORD {}"
) -> None:
    """Give a login another password."""
    # E'' takes backslashes; the colon would be a parameter of SQLAlchemy's.
    quoted = password.replace("\\", "\\\\").replace("'", "''").replace(":", "\\:")
    server.execute(statement.format(name, f"E'{quoted}'"))
