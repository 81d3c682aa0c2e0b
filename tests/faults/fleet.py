"""Real workers and coordinators of one test, and what can be waited for in the database."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Row, text

from coordinator.create import create_or_join
from coordinator.watch import watch
from tests.faults.environments import ENV
from tests.faults.processes import PATIENCE, ROOT, Process, eventually
from tests.support.invariants import check_invariants
from tests.support.server import plain
from tests.support.studies import expire, trivial_spec, trivial_study
from trialfleet.postgres.retry import patiently
from trialfleet.settings import PREFIX, Settings
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import life

LEASE = 4.0  # seconds; long enough for a busy machine, short enough to be waited for once
SEGMENT, SEGMENTS = 8, 24  # environment steps in a segment, and segments in a trial
WHOLE = [SEGMENT * (segment + 1) for segment in range(SEGMENTS)]
STUDY = "trivial"


class Fleet:
    """The processes of one test, on one database.

    Args:
        url: The database's, past every proxy.
        folder: For logs; the processes' working folder.
    """

    def __init__(self, url: URL, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.database = Database(url, application="tests")
        self.processes: list[Process] = []
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(PREFIX)},
            # First the repository that this file lies in, wherever else the package is installed.
            "PYTHONPATH": str(ROOT),
            f"{PREFIX}DATABASE_URL": plain(url),
            f"{PREFIX}LEASE_SECONDS": str(LEASE),
            f"{PREFIX}POLL_SECONDS": "0.1",
            f"{PREFIX}CHECKPOINT_EVERY": "0",
            f"{PREFIX}OUTAGE_PATIENCE": "60",
        }

    def start(
        self,
        *arguments: str,
        name: str | None = None,
        url: URL | None = None,
        cold: bool = False,
        **environment: str,
    ) -> Process:
        """Start a command.

        Args:
            arguments: After `trialfleet`.
            name: Of the process, for its log.
            url: Of the database, where it is not the fleet's own (a proxy's).
            cold: Start an interpreter instead of forking one.
            environment: Further variables; a name in lower case is one of Trialfleet's settings.
        """
        process = Process(
            list(arguments),
            folder=self.folder,
            name=name or f"{arguments[0]}-{len(self.processes)}",
            cold=cold,
            environment={
                **self._environment,
                **({f"{PREFIX}DATABASE_URL": plain(url)} if url is not None else {}),
                **{
                    f"{PREFIX}{key.upper()}" if key.islower() else key: value
                    for key, value in environment.items()
                },
            },
        )
        self.processes.append(process)
        return process

    def worker(
        self,
        *,
        steer: str = "",
        study: str | None = STUDY,
        name: str | None = None,
        url: URL | None = None,
        cold: bool = False,
        **environment: str,
    ) -> Process:
        """Start a worker, of the whole fleet if of no study; its environments are steered."""
        name = name or f"worker-{len(self.processes)}"
        if steer:
            (self.folder / f"{name}.steer").write_text(steer, encoding="utf-8")
        arguments = ["worker"] if study is None else ["worker", study]
        return self.start(*arguments, name=name, url=url, cold=cold, **environment)

    def coordinator(
        self, *, url: URL | None = None, name: str | None = None, **fields: Any
    ) -> Process:
        """Start a coordinator of the study with these fields."""
        name = name or f"coordinate-{len(self.processes)}"
        return self.start("coordinate", str(self.study_file(name, **fields)), name=name, url=url)

    def study_file(self, name: str = "study", **fields: Any) -> Path:
        """A file of the study with these fields."""
        path = self.folder / f"{name}.toml"
        path.write_text(trivial_study(**{**STEERED, **fields}), encoding="utf-8")
        return path

    def create(self, *, artifacts: str = "database", **fields: Any) -> Study:
        """Create a study that can be steered, its artifacts in this store."""
        spec = trivial_spec(**{**STEERED, **fields})
        return create_or_join(self.database, spec, artifacts=artifacts)

    def rows(self, statement: str, **values: Any) -> list[Row[Any]]:
        """The rows of a query."""

        def ask() -> list[Row[Any]]:
            with self.database.transaction() as connection:
                return list(connection.execute(text(statement), values).all())

        return patiently(ask, patience=PATIENCE)  # the server may have been restarted

    def execute(self, statement: str, *, steering: bool = False, **values: Any) -> None:
        """Run a statement that returns nothing; steering, as one who may change trials of ours."""

        def run() -> None:
            with self.database.transaction() as connection:
                if steering:
                    life.steer(connection)
                connection.execute(text(statement), values)

        patiently(run, patience=PATIENCE)

    def grant(self, role: str, *, password: str | None = None) -> str:
        """A role of this name that may do what a worker does, and nothing more."""
        quoted = f'"{role}"'
        self.execute(f"DROP ROLE IF EXISTS {quoted}")
        self.execute(f"CREATE ROLE {quoted} LOGIN")
        if password is not None:
            literal = password.replace("'", "''").replace(":", "\\:")
            self.execute(f"ALTER ROLE {quoted} PASSWORD '{literal}'")
        for schema in ("public", "fleet"):
            self.execute(f"GRANT USAGE ON SCHEMA {schema} TO {quoted}")
            self.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {quoted}")
            self.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO {quoted}")
        return role

    def attempts(self, number: int | None = None, *, final: bool = False) -> list[Row[Any]]:
        """Attempts at one trial, or at all of a stage, in the order of their fences."""
        return self.rows(
            f"""
            SELECT t.number, t.trial_id, a.fence, a.worker, a.ended_at, a.outcome, w.pid
            FROM fleet.studies s
            JOIN public.trials t ON t.study_id = s.{"final_id" if final else "search_id"}
            JOIN fleet.attempts a USING (trial_id)
            LEFT JOIN fleet.workers w USING (worker)
            WHERE CAST(:number AS integer) IS NULL OR t.number = :number
            ORDER BY a.fence
            """,
            number=number,
        )

    def outcomes(self, number: int, *, final: bool = False) -> list[str | None]:
        """How the attempts at one trial ended; None for the one under way."""
        return [attempt.outcome for attempt in self.attempts(number, final=final)]

    def claimed(
        self, process: Process, *, number: int | None = None, final: bool = False
    ) -> Row[Any]:
        """Wait for the process to hold a trial; its attempt."""

        def held() -> Row[Any] | None:
            for attempt in self.attempts(number, final=final):
                if attempt.outcome is None and attempt.pid == process.pid:
                    return attempt
            assert process.code is None, process.output
            return None

        found = eventually(held, f"{process.name} holds a trial:\n{process.output[-2000:]}")
        assert found is not None
        return found

    def curve(self, trial_id: int) -> list[int]:
        """The steps at which a trial's learning curve has a point."""
        query = """
            SELECT step FROM fleet.metrics WHERE trial_id = :trial_id AND name = 'return'
            ORDER BY step
        """
        return [row.step for row in self.rows(query, trial_id=trial_id)]

    def note_reports(self) -> None:
        """Keep from now on what each attempt reports, also what another has reported before it."""
        for statement in (
            "CREATE TABLE reported (fence bigint, step bigint)",
            "CREATE FUNCTION note_report() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "INSERT INTO public.reported "
            "VALUES (current_setting('fleet.fence')\\:\\:bigint, NEW.step); "
            "RETURN NEW; END $$",
            "CREATE TRIGGER note_report BEFORE INSERT ON fleet.metrics "
            "FOR EACH ROW WHEN (NEW.name = 'return') EXECUTE FUNCTION note_report()",
        ):
            self.execute(statement)

    def reported(self, fence: int) -> list[int]:
        """The steps that an attempt has reported, in its order."""
        query = "SELECT step FROM reported WHERE fence = :fence ORDER BY ctid"
        return [row.step for row in self.rows(query, fence=fence)]

    def checkpoint(self, trial_id: int) -> int | None:
        """The step of a trial's checkpoint."""
        query = "SELECT step FROM fleet.checkpoints WHERE trial_id = :trial_id"
        return next((row.step for row in self.rows(query, trial_id=trial_id)), None)

    def trained(self, trial_id: int, *, segments: int = 2) -> None:
        """Wait until a trial has reported some segments and stored a checkpoint."""
        eventually(
            lambda: len(self.curve(trial_id)) >= segments and self.checkpoint(trial_id),
            f"trial {trial_id} reports {segments} segments",
        )

    def state(self, trial_id: int) -> str:
        """A trial's state."""
        query = "SELECT state::text AS state FROM public.trials WHERE trial_id = :trial_id"
        return str(self.rows(query, trial_id=trial_id)[0].state)

    def written(self, trial_id: int) -> dict[str, list[tuple[Any, ...]]]:
        """Everything that is stored of a trial, to compare with later."""
        tables = (
            "public.trials",
            "public.trial_params",
            "public.trial_values",
            "public.trial_intermediate_values",
            "public.trial_user_attributes",
            "public.trial_system_attributes",
            "fleet.metrics",
            "fleet.checkpoints",
        )
        return {
            table: sorted(
                (
                    tuple(map(repr, row))
                    for row in self.rows(
                        f"SELECT * FROM {table} WHERE trial_id = :trial_id", trial_id=trial_id
                    )
                ),
            )
            for table in tables
        }

    def expire(self, *fences: int) -> None:
        """Let these leases have expired."""
        expire(self.database, *fences)

    def ends(self, name: str = STUDY, *, stage: str = "done", within: float = 60.0) -> Study:
        """Coordinate the study, in this process, to its end, and check that all is well with it."""
        deadline = time.monotonic() + within

        def pause(_seconds: float) -> None:
            assert time.monotonic() < deadline, self.picture()
            time.sleep(0.05)

        settings = Settings(lease_seconds=LEASE, poll_seconds=0.1)
        study = watch(self.database, name, settings=settings, pause=pause)
        assert study.stage == stage
        check_invariants(self.database, name)
        return study

    def replays(self, number: int, *, final: bool = False) -> None:
        """Train a trial once more in one go; it must come out equal to the bit."""
        options = ["--final"] if final else []
        replay = self.start("replay", STUDY, str(number), *options)
        assert replay.ends() == 0, replay.output

    def picture(self) -> str:
        """What stands in the database, for a test that gives up."""
        return "\n".join(
            str(row)
            for row in (
                *self.rows("SELECT name, stage, reason FROM fleet.studies"),
                *self.rows("SELECT study_id, number, state::text FROM public.trials ORDER BY 1, 2"),
                *self.attempts(),
            )
        )

    def close(self) -> None:
        """End everything, and leave the logs in the test's output."""
        for process in self.processes:
            if process.code is None:
                process.kill()
            print(f"--- {process.name} (exit code {process.code})")
            print(process.output[-5000:])
        self.database.close()


# The fields of a study whose trials take a moment, or as long as a test needs.
STEERED: dict[str, Any] = {
    "env": ENV,
    "train_steps": SEGMENT * SEGMENTS,
    "eval_every": SEGMENT,
    "trials": 2,
    "top": 1,
    "final_seeds": 2,
}
