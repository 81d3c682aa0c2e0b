"""Why a server's certificate is refused: libpq says only that it is."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct

from sqlalchemy import URL

_PATIENCE = 5.0  # seconds for the connection, and for each reply
_SSL_REQUEST = struct.pack("!II", 8, 80877103)
# Where libpq looks for the certificates to trust if the URL has no sslrootcert.
_DEFAULT_ROOT = "~/.postgresql/root.crt"


def refusal(url: URL) -> str | None:
    """What there is against the certificate of the server at `url`; None if that stays unknown.

    Asks the server once more, for its certificate only: nothing else is sent.
    """
    # `os.path` leaves the tilde to a user who has no home.
    root = url.query.get("sslrootcert") or os.path.expanduser(_DEFAULT_ROOT)
    # A URL may name several hosts, by as many `host=`; then the answer is not ours to give.
    if not url.host or not isinstance(root, str):
        return None
    try:
        context = ssl.create_default_context(cafile=None if root == "system" else root)
        context.check_hostname = False  # libpq has words of its own for a wrong name
        with contextlib.closing(
            socket.create_connection((url.host, url.port or 5432), timeout=_PATIENCE)
        ) as plain:
            plain.sendall(_SSL_REQUEST)
            if plain.recv(1) == b"S":
                context.wrap_socket(plain, server_hostname=url.host).close()
    except ssl.SSLCertVerificationError as exc:
        return str(exc.verify_message)
    except (OSError, ValueError):
        pass
    return None
