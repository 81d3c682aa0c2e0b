"""Follows a study in the database and keeps its event files up to date."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.tensorboard import hparams
from coordinator.tensorboard.events import FILES, SCORE, RunFiles
from coordinator.tensorboard.runs import BANDS, TAGS, Choice, Group, choose, mean_point, seed_points
from trialfleet.errors import StudyMismatchError
from trialfleet.search import space
from trialfleet.store import metrics, studies
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import following

_OURS = re.compile(r"(?:final-)?trial-[0-9]{4,}(?:/seed-[0-9]+)?")
_STUDY = "study"  # the run that says how the others are shown; it has no points
Metrics = dict[int, dict[str, list[float]]]  # of each agent, by step and name


@dataclass
class _Run:
    """A run, and how far it has been read."""

    fences: tuple[int, ...] | None = None
    read: list[Metrics] = field(default_factory=list)  # of each member, what is not written yet
    after: list[int] = field(default_factory=list)  # of each member, the last step read
    settled: bool = False  # all is written, and nothing will come
    files: dict[str, RunFiles] = field(default_factory=dict)  # by the run's or the seed's name

    def begin(self, group: Group) -> None:
        """Read all of it again: it is new here, or one of its trials has begun anew."""
        self.fences = group.fences
        self.read = [{} for _ in group.members]
        self.after = [-1] * len(group.members)


class Follower:
    """Writes what is new at each look.

    Args:
        database: Of this process.
        name: An existing study.
        logdir: For this study alone. What an earlier process has written there is gone on with.
        choice: Which trials.
    """

    def __init__(self, database: Database, name: str, logdir: Path, choice: Choice) -> None:
        self._database, self._logdir, self._choice = database, logdir, choice
        self._study = study = studies.find(database, name)
        self._runs: dict[str, _Run] = {}
        self._params: dict[int, dict[str, object]] = {}
        root = RunFiles(logdir)  # where an earlier version has put it
        if not root.tags:
            root = RunFiles(logdir / _STUDY)
        if not root.tags:
            first = study.spec.search.objectives[0].measure.name
            root.put(0, hparams.experiment(study.spec.agent, TAGS["return"], judged_by=first))
            if not choice.seeds:
                root.put(0, hparams.layout(BANDS))
        root.close()
        # What an earlier process has left: gone on with, or removed where it is not shown any more.
        for folder in {path.parent for path in logdir.rglob(FILES)}:
            run = folder.relative_to(logdir).as_posix()
            if _OURS.fullmatch(run):
                left = self._runs.setdefault(run.split("/")[0], _Run())
                left.files[run] = RunFiles(folder)

    def look(self) -> Study:
        """Write what has come since the last look; the study as it stood then."""
        study = studies.read_again(self._database, self._study)
        # As of one moment: a trial's state and fence are those of its measurements.
        with self._database.one_moment() as connection:
            groups = choose(connection, study, self._choice)
            waiting: list[tuple[Group, _Run]] = []
            asked: dict[int, int] = {}
            for group in groups:
                run = self._runs.setdefault(group.name, _Run())
                if run.settled:
                    continue
                if run.fences != group.fences:
                    run.begin(group)
                waiting.append((group, run))
                asked |= {m.trial_id: a for m, a in zip(group.members, run.after, strict=True)}
            found = metrics.read_after(connection, asked) if asked else {}
            unknown = [
                trial_id
                for trial_id in (group.members[0].trial_id for group, _ in waiting)
                if trial_id not in self._params
            ]
            if unknown:
                self._params |= following.params(connection, unknown)
        for group, run in waiting:
            self._write(study, group, run, found)
        self._forget({group.name for group in groups})
        return study

    def close(self) -> None:
        """Give every file back."""
        for run in self._runs.values():
            for file in run.files.values():
                file.close()

    def _write(self, study: Study, group: Group, run: _Run, found: dict[int, Metrics]) -> None:
        first = all(after == -1 for after in run.after)
        for place, member in enumerate(group.members):
            new = found.get(member.trial_id, {})
            run.read[place] |= new
            run.after[place] = max([run.after[place], *new])
        points: dict[str, dict[int, dict[str, float]]] = {}
        for step in sorted(set.intersection(*(set(read) for read in run.read))):
            together = _together([read.pop(step) for read in run.read])
            if self._choice.seeds:
                for seed, point in enumerate(seed_points(together)):
                    points.setdefault(f"{group.name}/seed-{seed}", {})[step] = point
            else:
                points.setdefault(group.name, {})[step] = mean_point(together)
        if first:
            folders = self._folders(group)
            for folder in set(run.files) - set(folders):
                run.files.pop(folder).remove()
            for folder in folders:
                if folder not in run.files:
                    run.files[folder] = RunFiles(self._logdir / folder)
                run.files[folder].begin_at(points.get(folder, {}))
        for folder, file in run.files.items():
            self._start(study, group, file)
            for step, point in points.get(folder, {}).items():
                if step > file.last:
                    file.add(step, point)
            if group.finished:
                self._end(group, file)
            file.flush()
        run.settled = group.finished

    def _folders(self, group: Group) -> list[str]:
        if not self._choice.seeds:
            return [group.name]
        return [f"{group.name}/seed-{seed}" for seed in range(sum(group.weights))]

    def _start(self, study: Study, group: Group, file: RunFiles) -> None:
        params = self._params.get(group.members[0].trial_id)
        if params is None or file.started:
            return
        try:
            values = space.decode(params, study.spec.agent)
        except StudyMismatchError:  # a trial that somebody else has put in
            return
        file.put(0, hparams.session_start(values, group.name))

    def _end(self, group: Group, file: RunFiles) -> None:
        if not file.ended:
            score = group.score
            if score is not None and not self._choice.seeds:
                file.score(max(file.last, 0), SCORE, score)
            file.put(max(file.last, 0), hparams.session_end(group.failed))
        file.close()

    def _forget(self, shown: set[str]) -> None:
        """Remove the runs that are no longer among those to show: TensorBoard crawls with many."""
        for name in set(self._runs) - shown:
            for file in self._runs.pop(name).files.values():
                file.remove()


def _together(members: list[dict[str, list[float]]]) -> dict[str, list[float]]:
    """The values of all seeds, for what every member has measured."""
    names = [name for name in members[0] if all(name in member for member in members)]
    return {name: [v for member in members for v in member[name]] for name in names}
