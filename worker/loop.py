"""A worker's life: claim -> train -> finish, until the study is done or a stop is asked for."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar
from uuid import uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError

import trialfleet
import worker
from trialfleet import __version__
from trialfleet.errors import STALLED, FleetError, LeaseLostError, UsageError
from trialfleet.escape import printable, storable
from trialfleet.parent import tell
from trialfleet.postgres.outages import is_outage, lease_was_lost
from trialfleet.postgres.retry import patiently
from trialfleet.postgres.waiting import REPLY_TIMEOUT, set_reply_timeout
from trialfleet.processes import end_children
from trialfleet.settings import Settings
from trialfleet.store import leases
from trialfleet.store.leases import Claim
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from worker.attempt import Attempt
from worker.heartbeat import Heartbeat
from worker.provenance import Provenance, find_device, hardware, versions
from worker.reports import Reports
from worker.serving import EveryStudy, OneStudy, Served, Source
from worker.stop import Stop, StopRequested
from worker.trainers.protocol import TRAINING_THREAD

_TRACEBACK = 20_000  # characters of a failed trial's that are kept

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True)
class _Watch:
    """Stop and heartbeat as the one thing an attempt looks at."""

    stop: Stop
    heartbeat: Heartbeat

    def check(self) -> None:
        self.stop.check()
        self.heartbeat.check()

    def wait(self, seconds: float) -> None:
        self.stop.wait(seconds)
        self.heartbeat.check()

    def training(self, seconds: float) -> AbstractContextManager[None]:
        return self.heartbeat.training(seconds)

    def resume(self, step: int) -> None:
        self.heartbeat.resume(step)

    def progress(self, step: int, *, agents: int) -> None:
        self.heartbeat.progress(step, agents=agents)


class Worker:
    """One process that pulls trials of one study, or of all.

    Args:
        database: Of this process alone.
        study_name: An existing study; None for a fleet's worker, which serves every open one.
        settings: Lease, poll and patience.
        stop: Looked at between two steps of the work.
        on_stall: Called before this worker ends its process, whose trainer does not return.

    Raises:
        StudyNotFoundError: There is no such study.
        VersionMismatchError: This version cannot go on with it.
        StudyMismatchError: Its stored study file has changed.
    """

    def __init__(
        self,
        database: Database,
        study_name: str | None,
        *,
        settings: Settings,
        stop: Stop,
        on_stall: Callable[[], None] = lambda: None,
    ) -> None:
        self._source: Source = (
            EveryStudy(database) if study_name is None else OneStudy(database, study_name)
        )
        self._database = database
        self._settings = settings
        self._stop, self._on_stall = stop, on_stall
        # A stall must not outlast the lease, and it is met twice: by the connection at hand, then
        # by the one that is to replace it.
        set_reply_timeout(min(REPLY_TIMEOUT, settings.lease_seconds / 4))
        host = storable(socket.gethostname())
        # Host names and process ids come again, in containers above all; this does not.
        self.name = f"{host}-{os.getpid()}-{secrets.token_hex(3)}"
        self._thread = threading.main_thread()  # that trains
        self._attempt: Attempt | None = None  # at the trial that is claimed
        self._served: Served | None = None  # its study
        device = find_device(settings.device)
        self._provenance = Provenance(
            worker=self.name,
            host=host,
            device=device,
            hardware=hardware(device),
            versions=versions(compiled=settings.compiled),
            lanes=settings.lanes,
        )
        self._heartbeat = Heartbeat(
            database,
            identity={
                "worker": self.name,
                "study": self._source.name,
                "host": host,
                "pid": os.getpid(),
                "version": __version__,
            },
            lease_seconds=settings.lease_seconds,
            on_stall=self._give_up,
        )

    def run(self) -> Study:
        """Work until the study has ended; how it ended. For a fleet: until a stop is asked for.

        Raises:
            StopRequested: A stop was asked for; the trial at hand has been given back.
            DatabaseUnavailableError: The database stayed away.
        """
        self._thread = threading.current_thread()
        tell("named", self.name)
        log.info(
            "worker ready",
            worker=self.name,
            study=self._source.name or "any",
            device=self._provenance.device,
        )
        self._patiently(self._heartbeat.beat)
        self._heartbeat.start()
        try:
            while True:
                self._stop.check()
                asked = time.monotonic()
                claim = self._claim()
                if claim is not None:
                    self._heartbeat.figures.claimed(time.monotonic() - asked)
                    self._work(claim, asked=asked)
                    if self._heartbeat.crowded:
                        self._make_room()
                    continue
                study = self._patiently(self._source.ended)
                if study is not None:
                    log.info("study ended", study=study.name, stage=study.stage)
                    return study
                self._make_room()
        finally:
            self._heartbeat.close()

    def _make_room(self) -> None:
        """Pause, and leave our connection to others meanwhile if there are too few of them."""
        if self._heartbeat.crowded:
            self._database.close_idle()
        self._stop.wait(self._settings.poll_seconds)

    def _claim(self) -> Claim | None:
        claim_id = uuid4()  # made here, so that a repeated claim is the same claim
        return self._patiently(
            lambda: self._source.claim(self.name, claim_id, self._settings.lease_seconds)
        )

    def _work(self, claim: Claim, *, asked: float) -> None:
        """Run the trial, for whichever study it is of."""
        served = None
        try:
            served = self._patiently(lambda: self._source.served(claim))
        finally:
            if served is None:
                self._release(claim)
        if served is None:
            return
        self._served = served
        self._heartbeat.serve(served.study.name)
        try:
            self._run(served, claim, asked=asked)
        except FleetError as exc:
            if not self._source.outlives(served, exc):
                raise
        finally:
            self._heartbeat.serve(self._source.name)

    def _refuse_own_training(self, served: Served) -> None:
        """A function may set what the whole process shares, such as PyTorch's generator.

        Raises:
            UsageError: The study is trained by one, and this process trains several trials.
        """
        if self._settings.lanes > 1 and served.study.spec.task.objective:
            raise UsageError(
                f"study {served.study.name!r} has a training of its own (task.objective), which"
                " needs a process for itself; start its workers without --lanes"
            )

    def _release(self, claim: Claim) -> None:
        """Give the trial back; what comes in between is no reason to forget why."""
        with suppress(SQLAlchemyError, FleetError):
            leases.release(self._database, claim)
            log.info("released", trial=claim.number, stage=claim.stage)

    def _run(self, served: Served, claim: Claim, *, asked: float) -> None:
        bound = log.bind(trial=claim.number, stage=claim.stage)
        if not self._source.name:
            bound = bound.bind(study=served.study.name)
        bound.info("claimed", attempt=claim.attempt)
        watch = _Watch(self._stop, self._heartbeat)
        self._heartbeat.hold(claim, since=asked)
        attempt = Attempt(
            self._database,
            served.store,
            served.study,
            claim,
            history=served.history,
            watch=watch,
            provenance=self._provenance,
            settings=self._settings,
        )
        self._attempt = attempt
        try:
            if time.monotonic() - asked > self._settings.lease_seconds / 2:
                # It waited out an outage or a lock. The lease may have begun just now, or at a try
                # whose reply was lost: whoever asks to extend it knows.
                self._patiently(self._heartbeat.beat)
            try:
                self._refuse_own_training(served)
                outcome = attempt.run()
            except (StopRequested, FleetError):
                raise
            except BaseException as exc:  # an environment may call sys.exit(), for one
                if isinstance(exc, KeyboardInterrupt) and not self._stop.installed:
                    raise
                # A trainer may use a database of its own.
                ours = not attempt.is_trainers(exc)
                if ours and lease_was_lost(exc):
                    raise LeaseLostError(f"trial {claim.number} is another worker's") from exc
                if ours and is_outage(exc):
                    raise
                reason = _reason(exc)
                bound.warning("trial failed", reason=reason)
                trace = _shortened("".join(traceback.format_exception(exc)))
                ending = _failed(attempt, {"reason": reason, "traceback": trace})
                self._finish(served, claim, ending.state, ending.values, ending.attributes)
            else:
                self._finish(
                    served,
                    claim,
                    outcome.state,
                    outcome.values,
                    outcome.attributes,
                    system_attributes=outcome.system_attributes,
                    reports=outcome.reports,
                )
                values = [round(value, 6) for value in outcome.values]
                told = {"value": values[0]} if len(values) == 1 else {"values": values}
                bound.info("finished", state=outcome.state, **told)
        except LeaseLostError:
            # Losing a race is normal: whoever has the trial now will finish it.
            bound.info("lease lost, dropped the trial")
        except (StopRequested, FleetError):
            # A stop, or something that is wrong with this worker and not with the trial.
            self._release(claim)
            raise
        finally:
            self._heartbeat.drop()

    def _finish(
        self,
        served: Served,
        claim: Claim,
        state: Any,
        values: Sequence[float],
        attributes: dict[str, Any],
        *,
        system_attributes: dict[str, Any] | None = None,
        reports: Reports | None = None,
    ) -> None:
        provenance = {
            "attempts": claim.attempt,
            **asdict(self._provenance),
            "digest": served.study.digest,
        }
        while not self._patiently(
            lambda: leases.finish(
                self._database,
                claim,
                state=state,
                values=values,
                attributes={**attributes, **provenance},
                system_attributes=system_attributes,
                sent=reports.sent if reports is not None else 0,
            )
        ):
            assert reports is not None, "a trial without reports misses none"
            self._patiently(reports.send_again)

    def _give_up(self, claim: Claim) -> None:
        """FAIL a trial whose trainer does not return, and end this process.

        Nothing else can end a thread that is stuck in somebody else's code. Whoever supervises the
        worker starts another.
        """
        assert self._served is not None, "a trial is at hand"
        task = self._served.study.spec.task
        limits = {"stall_seconds": task.stall_seconds, "max_seconds": task.max_seconds}
        told = " or ".join(f"task.{name} = {most:g}" for name, most in limits.items() if most)
        stack = _trainers_stack(self._thread)
        reason = f"the trainer did not return within {told}; it was {_whereabouts(stack)}"
        trace = _shortened("".join(stack.format()))
        ending = _failed(self._attempt, {"reason": reason, "traceback": trace})
        try:
            leases.finish(
                self._database,
                claim,
                state=ending.state,
                values=ending.values,
                attributes={
                    **ending.attributes,
                    "attempts": claim.attempt,
                    **asdict(self._provenance),
                },
            )
        except FleetError as exc:
            log.warning("trial not failed", reason=str(exc))
        log.error("trial failed, ending this worker", trial=claim.number, reason=reason)
        self._heartbeat.drop()  # it is not to be given back
        self._on_stall()
        end_children()
        os._exit(STALLED)

    def abandon(self) -> None:
        """Give the trial at hand back, if there is one: this process is about to end."""
        claim = self._heartbeat.claim
        if claim is not None:
            self._release(claim)

    def _patiently(self, operation: Callable[[], T]) -> T:
        return patiently(operation, patience=self._settings.outage_patience, pause=self._stop.wait)


@dataclass(frozen=True)
class _Ending:
    """What becomes of a trial whose training has failed."""

    state: Literal["FAIL", "PRUNED"]
    values: list[float]
    attributes: dict[str, Any]


def _failed(attempt: Attempt | None, why: dict[str, Any]) -> _Ending:
    """FAIL; but a trial that was pruned before, and trained on for the audit, ends as PRUNED."""
    verdict = attempt.verdict if attempt is not None else None
    if verdict is None:
        return _Ending("FAIL", [], why)
    return _Ending("PRUNED", [verdict.value], {**verdict.attributes, "audit": why})


def _trainers_stack(worker: threading.Thread) -> traceback.StackSummary:
    """What the trainer's thread is doing, which may not be the worker's; innermost call last."""
    own = (thread for thread in threading.enumerate() if thread.name == TRAINING_THREAD)
    thread = next(own, worker)
    return traceback.extract_stack(sys._current_frames().get(thread.ident or 0))


def _shortened(trace: str) -> str:
    """At most `_TRACEBACK` characters of a traceback: how it begins, and how it ends."""
    trace = storable(trace)
    if len(trace) <= _TRACEBACK:
        return trace
    half = (_TRACEBACK - 7) // 2
    return f"{trace[:half]}\n[...]\n{trace[-half:]}"


def _whereabouts(stack: traceback.StackSummary) -> str:
    """Where that is."""
    line = stack[-1]
    return printable(f"in {line.name} ({Path(line.filename).name}:{line.lineno})")


def _place(frame: traceback.FrameSummary) -> str:
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _users(frames: Sequence[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """The frames of the user's own code: neither Python's, nor an installed package's, nor ours."""
    paths = sysconfig.get_paths()
    others = {Path(paths[key]) for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    others |= {Path(name.__file__ or "").parent for name in (trialfleet, worker)}
    return [
        frame
        for frame in frames
        if frame.filename[:1] != "<" and others.isdisjoint(Path(frame.filename).parents)
    ]


def _reason(exc: BaseException) -> str:
    """What failed and where, in one printable line: an environment may raise any text at all."""
    frames = traceback.extract_tb(exc.__traceback__)
    places = [*dict.fromkeys(_place(frame) for frame in (*_users(frames)[-1:], *frames[-1:]))]
    where = f" ({', in '.join(places)})" if places else ""
    message = " ".join(str(exc).split())[:300]
    return printable(f"{type(exc).__name__}: {message}{where}")
