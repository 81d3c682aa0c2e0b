"""Where a page without a password listens, and who can reach it there."""

from __future__ import annotations

import ipaddress

from trialfleet.errors import UsageError


def address(host: str, port: int) -> str:
    """The URL for a browser; IPv6 addresses stand in brackets there."""
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def refuse_unexpected(host: str, *, expose: bool, what: str) -> None:
    """Return if only this machine reaches the address, or if others are meant to.

    Args:
        host: Address to listen on.
        expose: Whether the user has said that others are to reach it.
        what: What whoever reaches it can do.

    Raises:
        UsageError: Others would reach it, and nobody has said so.
    """
    if not expose and not is_loopback(host):
        raise UsageError(
            f"--host {host}: whoever reaches this address {what}, without a password; "
            "--expose says that this is meant, docs/watching.md how to ask for a password"
        )


def warning(host: str, port: int, what: str) -> str | None:
    """What listening there exposes, in a line; None where only this machine reaches it.

    Args:
        host: Address to listen on.
        port: Port to listen on.
        what: What whoever reaches it can do.
    """
    if is_loopback(host):
        return None
    return (
        f"warning: {address(host, port)} asks for no password; whoever reaches it {what} "
        "(docs/watching.md: a proxy with a password)"
    )
