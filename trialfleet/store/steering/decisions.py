"""The decisions of races, as they were made: a row for each finalist after each block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, text

from trialfleet.escape import storable

READ = text("""
    SELECT block, finalist, trial, verdict, seeds, mean, p, level, why
    FROM fleet.decisions WHERE final_id = :final_id ORDER BY block, finalist
""")
LAST = text("SELECT max(block) FROM fleet.decisions WHERE final_id = :final_id")
INSERT = text("""
    INSERT INTO fleet.decisions
        (final_id, block, finalist, trial, verdict, seeds, mean, p, level, why)
    VALUES (:final_id, :block, :finalist, :trial, :verdict, :seeds, :mean, :p, :level, :why)
""")


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What became of one finalist after one block."""

    block: int  # from 1; 0: when it was chosen
    finalist: int  # its rank
    trial: int  # its number in the search
    verdict: str
    # of it by then: of the search in block 0, of the race from then on; of its confirmation where
    # the verdict is on that
    seeds: int
    mean: float | None  # over these; in block 0 the shrunken one that it was ranked by
    p: float | None = None  # the probability that it is the best of those that stood
    level: float | None = None  # with which it leaves; None where p is
    why: str  # in a line


def read(connection: Connection, final_id: int) -> list[Decided]:
    """The decisions of a final stage, by block and finalist; none of one that is no race."""
    rows = connection.execute(READ, {"final_id": final_id})
    return [Decided(**row._mapping) for row in rows]


def last_block(connection: Connection, final_id: int) -> int | None:
    """The block after which was decided last; None if nothing was decided."""
    found: int | None = connection.scalar(LAST, {"final_id": final_id})
    return found


def insert(connection: Connection, final_id: int, decided: Sequence[Decided]) -> None:
    """Store decisions, in the transaction that holds the study's lock and does what they say.

    Raises:
        IntegrityError: It was decided after this block before.
    """
    rows = [{"final_id": final_id, **asdict(each), "why": storable(each.why)} for each in decided]
    connection.execute(INSERT, rows)
