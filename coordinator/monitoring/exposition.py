"""A study's figures as Prometheus reads them. docs/monitoring.md has the list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from coordinator.status import Snapshot, snapshot
from trialfleet.store import studies, workers
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.workers import CLAIM_BUCKETS, Measured

STAGES = ("search", "final", "done", "failed")


@dataclass(frozen=True, kw_only=True)
class Figures(Collector):
    """One look at the study, to be written out in whatever format is asked for."""

    shot: Snapshot
    measured: Measured  # by all its workers
    errors: int  # of the database, that this coordinator has met

    def collect(self) -> Iterator[Metric]:
        """Every metric of the study."""
        shot, study = self.shot, self.shot.study.name
        stage = _gauge("study_stage", "1 for the stage the study is at, else 0.", "stage")
        for name in STAGES:
            stage.add_metric([study, name], float(shot.study.stage == name))
        yield stage
        trials = _gauge("trials", "Trials by stage and state.", "stage", "state")
        for name, counts in (("search", shot.search), ("final", shot.final)):
            if counts is not None:
                for state, count in asdict(counts).items():
                    trials.add_metric([study, name, state], count)
        yield trials
        for metric, value, help_text in (
            ("trials_budget", shot.study.budget, "Trials that the search is to complete or prune."),
            (
                "best_value",
                shot.best and shot.best[1],
                "First value of the search's best trial.",
            ),
            ("agent_steps_per_second", shot.steps_per_second, "Of all workers together."),
            ("workers", len(shot.workers), "Workers that are alive."),
            ("study_seconds", shot.study.seconds, "From the study's creation to now, or its end."),
            ("eta_seconds", shot.eta, "Until the study's end, as far as can be told."),
        ):
            gauge = _gauge(metric, help_text)
            if value is not None:  # not known yet
                gauge.add_metric([study], value)
            yield gauge
        lost = _counter("lease_losses", "Attempts at trials that were lost with their worker.")
        lost.add_metric([study], shot.lost)
        yield lost
        errors = _counter(
            "database_errors", "Calls that failed as the database was away or in a deadlock.", "by"
        )
        errors.add_metric([study, "workers"], self.measured.database_errors)
        errors.add_metric([study, "coordinator"], self.errors)
        yield errors
        claims = HistogramMetricFamily(
            "trialfleet_claim_seconds",
            "How long workers waited for a trial that there was.",
            labels=["study"],
        )
        ends = [*map(str, CLAIM_BUCKETS), "+Inf"]
        so_far = accumulate(self.measured.claims)
        claims.add_metric(
            [study], [*zip(ends, so_far, strict=True)], sum_value=self.measured.claim_seconds
        )
        yield claims


@dataclass(frozen=True, kw_only=True)
class Together(Collector):
    """The figures of several studies, each metric once with the samples of all."""

    studies: Sequence[Figures]

    def collect(self) -> Iterator[Metric]:
        """Every metric of every study."""
        merged: dict[str, Metric] = {}
        for figures in self.studies:
            for metric in figures.collect():
                if metric.name in merged:
                    merged[metric.name].samples.extend(metric.samples)
                else:
                    merged[metric.name] = metric
        yield from merged.values()


def look_at_all(database: Database, *, errors: int) -> Together:
    """The figures of the open studies and of those that ended within the last hour.

    Args:
        database: To ask; it is not the one whose errors count.
        errors: Of the coordinator's own database, told with each study.
    """
    found = [study for study in studies.find_recent(database) if study.unreadable is None]
    # Not by their names again: one that was deleted since would cost the figures of all others.
    return Together(studies=[_figures(database, study, errors=errors) for study in found])


def look(database: Database, study: str, *, errors: int) -> Figures:
    """The study's figures of this moment.

    Args:
        database: To ask; it is not the one whose errors count.
        study: Its name.
        errors: Of the coordinator's own database.

    Raises:
        StudyNotFoundError: There is no such study, or none yet.
    """
    return _figures(database, studies.find(database, study), errors=errors)


def _figures(database: Database, study: Study, *, errors: int) -> Figures:
    shot = snapshot(database, study)
    with database.transaction() as connection:
        measured = workers.measured(connection, study.name)
    return Figures(shot=shot, measured=measured, errors=errors)


def _gauge(name: str, help_text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"trialfleet_{name}", help_text, labels=["study", *labels])


def _counter(name: str, help_text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"trialfleet_{name}", help_text, labels=["study", *labels])
