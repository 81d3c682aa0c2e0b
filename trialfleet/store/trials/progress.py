"""How far a search has come, for people and for rules that may stop it.

Nothing here writes or locks.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from trialfleet.store.trials.reading import FEASIBLE, TRAINED

# Values times this are to be maximized. Imported trials are left out of everything here.
_SIGN = """(SELECT CASE direction::text WHEN 'MINIMIZE' THEN -1 ELSE 1 END
    FROM public.study_directions WHERE study_id = :study_id AND objective = 0)"""
# Among equals the one that ended first, by its place in the order of endings.
BEST = text(f"""
    SELECT t.number, v.value, f.position, {_SIGN} AS sign
    FROM fleet.finished f JOIN public.trials t USING (trial_id)
    JOIN public.trial_values v ON v.trial_id = t.trial_id AND v.objective = 0
    WHERE f.study_id = :study_id AND t.state = 'COMPLETE' AND {TRAINED}
      AND (NOT :constrained OR {FEASIBLE})
    ORDER BY {_SIGN} * v.value DESC, f.position LIMIT 1
""")  # noqa: S608
COUNTED_SINCE = text(f"""
    SELECT count(*) FROM fleet.finished f JOIN public.trials t USING (trial_id)
    WHERE f.study_id = :study_id AND f.position > :position
      AND t.state IN ('COMPLETE', 'PRUNED') AND {TRAINED}
""")  # noqa: S608
# Trial 0 is the first that is claimed; imported ones never are.
SECONDS = text("""
    SELECT greatest(0, extract(epoch FROM coalesce(s.paused_at, now()) - (
        SELECT min(a.claimed_at) FROM fleet.attempts a JOIN public.trials t USING (trial_id)
        WHERE t.study_id = s.search_id AND t.number <= s.imported
    )) - s.paused_seconds) FROM fleet.studies s WHERE s.search_id = :study_id
""")
STEPS = text("""
    SELECT (SELECT coalesce(sum(u.value_json::numeric), 0)
            FROM public.trials t JOIN public.trial_user_attributes u USING (trial_id)
            WHERE t.study_id = :study_id AND t.state IN ('COMPLETE', 'PRUNED') AND u.key = 'steps')
        + :seeds * (SELECT coalesce(sum(a.step), 0)
            FROM public.trials t JOIN fleet.attempts a USING (trial_id)
            WHERE t.study_id = :study_id AND t.state = 'RUNNING' AND a.ended_at IS NULL)
""")


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best trial that was trained and completed; of equals the one that ended first."""

    number: int
    value: float  # of the first objective
    position: int  # its place in the order in which trials end
    sign: int  # 1 if a greater value is better, else -1


def best(connection: Connection, study_id: int, *, constrained: bool) -> Best | None:
    """The best trial so far; None before the first is COMPLETE.

    Args:
        connection: Of a transaction.
        study_id: Optuna's.
        constrained: Whether only those count that meet all constraints.
    """
    values = {"study_id": study_id, "constrained": constrained}
    row = connection.execute(BEST, values).one_or_none()
    return None if row is None else Best(**row._mapping)


def counted_since(connection: Connection, study_id: int, position: int) -> int:
    """How many trials that count have ended after the one at this position."""
    values = {"study_id": study_id, "position": position}
    return int(connection.scalar(COUNTED_SINCE, values) or 0)


def seconds(connection: Connection, study_id: int) -> float:
    """Seconds since the first trial was claimed, pauses left out; 0 before."""
    return float(connection.scalar(SECONDS, {"study_id": study_id}) or 0.0)


def steps(connection: Connection, study_id: int, *, seeds: int) -> int:
    """Environment steps of all agents, of trials that count and of those under way.

    Args:
        connection: Of a transaction.
        study_id: Optuna's.
        seeds: Agents of a trial.
    """
    return int(connection.scalar(STEPS, {"study_id": study_id, "seeds": seeds}) or 0)
