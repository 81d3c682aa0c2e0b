"""The database's URL: read, checked, and as others want it."""

from __future__ import annotations

import re

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from trialfleet.errors import UsageError


def parse_url(url: str) -> URL:
    """`url` with the driver we use.

    Raises:
        UsageError: It is not a PostgreSQL URL, or it names several hosts.
    """
    try:
        parsed = make_url(url.strip())
    except (ArgumentError, ValueError) as exc:
        raise UsageError(_malformed(url)) from exc
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise UsageError(f"database URL: {parsed.drivername!r} is not supported; use postgresql://")
    hosts = parsed.query.get("host", ())
    if (isinstance(hosts, tuple) and len(hosts) > 1) or "," in (parsed.host or str(hosts)):
        raise UsageError(_SEVERAL)
    return parsed.set(drivername="postgresql+psycopg2")


# libpq would take any of them, a standby too, and our patience and our messages know one place.
_SEVERAL = (
    "database URL: it names several hosts, and one is supported; name the primary, or a proxy or "
    "DNS name that leads to it"
)


def _malformed(url: str) -> str:
    # `make_url` reads the list of libpq's multi-host URLs as a bad port.
    authority = url.partition("://")[2].rpartition("@")[2].partition("/")[0].partition("?")[0]
    if "," in authority:
        return _SEVERAL
    return (
        "database URL: cannot be parsed; write postgresql://USER:PASSWORD@HOST:5432/DATABASE "
        "with special characters of the password percent-encoded"
    )


def optuna_url(url: URL) -> str:
    """The URL as text for Optuna's RDBStorage, password included."""
    # It passes its URL through str.format, so a brace in a password must not look like one.
    plain = url.render_as_string(hide_password=False)
    return plain.replace("{", "%7B").replace("}", "%7D")


def hide_password(text: str, url: URL) -> str:
    """`text`, which may quote the URL, without its password.

    A password that is also the role's name, or the host's or the database's, stays: what the
    message says of those would be lost, and it tells nobody that it is the password too.
    """
    password = str(url.password or "")
    if password in ("", url.username, url.host, url.database):
        return text
    # As a word: a password of one letter would otherwise take that letter from every other one.
    return re.sub(rf"(?<!\w){re.escape(password)}(?!\w)", "***", text)
