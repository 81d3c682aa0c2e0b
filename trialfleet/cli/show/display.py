"""A study for the eye: a live picture on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Protocol

from rich.console import Console
from rich.live import Live

from coordinator.status import Snapshot, finished, snapshot, steered
from trialfleet.cli.show.picture import duration, picture
from trialfleet.escape import printable
from trialfleet.store import studies
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.study.measures import amount

# Seconds between two progress lines when nothing else is printed.
_PLAIN_EVERY = 15.0


class Display(Protocol):
    """Shows a study while it runs."""

    def update(self) -> None:
        """Show how things stand now."""

    def close(self) -> None:
        """Leave the terminal as it was; asks the database nothing."""


def make_display(console: Console, database: Database, study: Study) -> Display:
    """A live display on a terminal that can redraw, plain lines otherwise."""
    redraws = console.is_terminal and not console.is_dumb_terminal
    kind = LiveDisplay if redraws else PlainDisplay
    return kind(console, database, study)


class LiveDisplay:
    """Redraws one picture in place; what is logged meanwhile goes above it."""

    def __init__(self, console: Console, database: Database, study: Study) -> None:
        self._database, self._study = database, study
        # A log that goes to a file stays there.
        self._live = Live(console=console, auto_refresh=False, redirect_stderr=sys.stderr.isatty())
        self._live.start()

    def update(self) -> None:
        """Redraw."""
        study = studies.read_again(self._database, self._study)
        self._live.update(picture(snapshot(self._database, study)), refresh=True)

    def close(self) -> None:
        """Leave the last picture on the screen."""
        self._live.stop()


class PlainDisplay:
    """A line per finished trial, and one of progress now and then."""

    def __init__(self, console: Console, database: Database, study: Study) -> None:
        self._console, self._database, self._study = console, database, study
        # What an earlier run of the same command has printed already.
        self._seen = {("search", trial.number) for trial in finished(database, study.search_id)}
        self._last = time.monotonic()

    def update(self) -> None:
        """Print what has happened since the last call."""
        study = studies.read_again(self._database, self._study)
        for stage, study_id in (("search", study.search_id), ("final", study.final_id)):
            if study_id is None:
                continue
            for trial in finished(self._database, study_id):
                if (stage, trial.number) in self._seen:
                    continue
                self._seen.add((stage, trial.number))
                why = f" ({trial.reason})" if trial.state == "PRUNED" and trial.reason else ""
                outcome = trial.reason if trial.state == "FAIL" else _values(trial.values)
                name = f"{stage} trial {trial.number}"
                if stage == "final" and trial.source is not None:
                    name += f" (of trial {trial.source})"
                self._line(f"{name} {trial.state} {outcome}{why}")
        if time.monotonic() - self._last > _PLAIN_EVERY:
            self._line(summary(snapshot(self._database, study)))

    def close(self) -> None:
        """Nothing is open."""

    def _line(self, text: str) -> None:
        self._last = time.monotonic()
        self._console.print(printable(text), highlight=False, markup=False, soft_wrap=True)


def summary(shot: Snapshot) -> str:
    """A study in one line."""
    search = shot.search
    parts = [
        f"{shot.study.name}: {search.counted - shot.study.imported}/{shot.study.asked} trials",
        f"{search.complete - shot.study.imported} complete, {search.pruned} pruned, "
        f"{search.failed} failed, {search.running} running",
    ]
    if shot.final is not None:
        parts.append(f"final stage {shot.final_told}")
    if shot.race is not None:
        parts.append(shot.race.told)
    if shot.best_told is not None:
        parts.append(shot.best_told)
    if shot.steps_per_second:
        parts.append(f"{shot.steps_per_second:,.0f} steps/s")
    if shot.eta is not None:
        parts.append(f"about {duration(shot.eta)} left")
    return " | ".join([*parts, *steered(shot.study)])


def _values(values: list[float]) -> str:
    return ", ".join(map(amount, values))
