"""Which coordinator acts: a lease of the workers' kind, on the database's clock.

No lock is held between two looks, so it works through a transaction-pooling proxy, and a
coordinator that dies is followed by another as soon as its lease has run out. Everything a
coordinator does is one transaction that checks the stage first, so two that both believe to lead
for a moment do no harm.
"""

from __future__ import annotations

import os
import secrets
import socket

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from trialfleet.store.storage import Database

LEAD = text("""
    INSERT INTO fleet.leaders (study, coordinator, expires_at)
    VALUES (:study, :coordinator, now() + make_interval(secs => :lease))
    ON CONFLICT (study) DO UPDATE
        SET coordinator = excluded.coordinator, expires_at = excluded.expires_at
        WHERE leaders.coordinator = excluded.coordinator OR leaders.expires_at < now()
""")
RESIGN = text("DELETE FROM fleet.leaders WHERE study = :study AND coordinator = :coordinator")


class Leadership:
    """This process's claim to lead one study.

    Args:
        database: Of this process.
        study: Its name.
        lease_seconds: How long after its last look a dead leader is followed.
    """

    def __init__(self, database: Database, study: str, *, lease_seconds: float) -> None:
        self._database = database
        self._values = {
            "study": study,
            "coordinator": f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}",
        }
        self._lease_seconds = lease_seconds

    def hold(self) -> bool:
        """Lead, or go on leading; False while another does, or if the study was deleted."""
        values = {**self._values, "lease": self._lease_seconds}
        try:
            with self._database.transaction() as connection:
                return connection.execute(LEAD, values).rowcount == 1
        except IntegrityError:  # a leader's row belongs to a study
            return False

    def resign(self) -> None:
        """Let another lead at once."""
        with self._database.transaction() as connection:
            connection.execute(RESIGN, self._values)
