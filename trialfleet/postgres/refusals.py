"""What PostgreSQL refuses, a connection or a statement, in one line and without the password."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
from sqlalchemy import URL
from sqlalchemy.exc import OperationalError, ProgrammingError

from trialfleet.errors import (
    DatabaseLimitError,
    DatabaseRefusedError,
    DatabaseUnavailableError,
    UsageError,
)
from trialfleet.postgres import tls
from trialfleet.postgres.outages import chain, is_crowded
from trialfleet.postgres.url import hide_password

# What libpq says of an address where nobody answers.
_NOBODY = (
    "Connection refused",
    "No route to host",
    "Network is unreachable",
    "Cannot assign requested address",
    "timed out",
)
# What it says of the URL itself, before it tries any address, or of a file that the URL names.
_BAD_URL = ("invalid ", "root certificate file", "certificate file", "private key file")

# Errors of a statement that the user can put right: SQLSTATE -> what it is.
_KNOWN = {
    "42501": "a right is missing",
    "25006": "the transaction is read-only",
    "3F000": "search_path names no schema",
    "22P05": "a character is not in the database's encoding",
    "22021": "a character is not in the database's encoding",
}


def refused_statement(exc: BaseException) -> DatabaseRefusedError | None:
    """`exc` as one line, if the database refused something that the user can put right."""
    for error in chain(exc):
        code = getattr(error, "pgcode", None)
        if isinstance(error, psycopg2.Error) and code in _KNOWN:
            line = (str(error).strip().splitlines() or [""])[0]
            return DatabaseRefusedError(f"PostgreSQL refused: {_KNOWN[code]} ({line})")
    return None


@contextmanager
def translated_errors(url: URL) -> Iterator[None]:
    """Connection errors as ours.

    Raises:
        UsageError: The URL has an option that libpq does not know, or names a file that is missing.
        DatabaseUnavailableError: Anything else.
    """
    try:
        yield
    except (OperationalError, ProgrammingError) as exc:
        reason = hide_password(_most_telling_line(str(exc.orig)), url)
        if isinstance(exc, ProgrammingError) and "connection option" not in reason:
            raise  # a statement's, not the connection's
        if reason.rpartition("failed: ")[2].startswith(_BAD_URL):
            raise UsageError(f"database URL: {reason}") from None
        if reason.endswith("certificate verify failed") and (known := tls.refusal(url)):
            reason = f"{reason}: {known}"
        hosts = url.query.get("host") or "the local socket"
        where = url.host or (hosts if isinstance(hosts, str) else ", ".join(hosts))
        if is_crowded(reason):
            raise DatabaseLimitError(f"PostgreSQL at {where}: {reason}") from None
        raise DatabaseUnavailableError(f"PostgreSQL at {where}: {reason}") from None


def _most_telling_line(message: str) -> str:
    """libpq has a line for each address that it tried: the first where somebody answered."""
    lines = message.strip().splitlines() or ["no reason given"]
    answered = [
        line for line in lines if "failed: " in line and not any(w in line for w in _NOBODY)
    ]
    return (answered or lines)[0]
