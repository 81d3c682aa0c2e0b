"""Every way this service can refuse or give up, each with its exit code and its remedy.

A subclass's docstring tells the user what to do; the message says what was found.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import ClassVar

# Every exit code of every command. The README has the same table; a test compares them.
EXIT_CODES: Mapping[int, str] = {
    0: "done",
    1: "a replay that differs, or an unforeseen error",
    2: "bad input: a study file, a name, an option, a setting, a file or folder that the system "
    "refuses, another version",
    3: "the schema is not ready (`trialfleet migrate`)",
    4: "the study failed: too many failures, or nothing to retrain",
    5: "the database stayed away, or somebody held a lock in it",
    6: "the artifact store failed, or has lost what was stored in it",
    7: "a trial's trainer or environment did not return; the worker failed the trial and ended "
    "itself, for its supervisor to start another",
    130: "stopped by SIGINT (Ctrl-C)",
    143: "stopped by SIGTERM, or by SIGHUP (a closed terminal)",
}

# Codes of what would end the same way if it were started again.
HOPELESS = frozenset({2, 3})
STALLED = 7


class FleetError(Exception):
    """Something went wrong that Trialfleet knows how to explain."""

    exit_code: ClassVar[int] = 1

    @property
    def lines(self) -> Sequence[str]:
        """What was found, each thing on a line of its own."""
        return [str(self)]

    @property
    def remedy(self) -> str:
        """What the user can do about it: the first paragraph of the subclass's docstring."""
        return (type(self).__doc__ or "").strip().split("\n\n")[0]


class StudyFileError(FleetError):
    """Correct the named field of the study file and run the same command again."""

    exit_code = 2

    def __init__(self, *mistakes: str) -> None:
        super().__init__("; ".join(mistakes))
        self._lines = mistakes

    @property
    def lines(self) -> Sequence[str]:
        """A mistake each."""
        return self._lines

    @property
    def remedy(self) -> str:
        """As everybody's, of each mistake."""
        return super().remedy.replace("field", "fields") if len(self.lines) > 1 else super().remedy


class StudyFileUnreadableError(StudyFileError):
    """Give the path of a study file that can be read, and run the same command again."""


class StudyFileSyntaxError(StudyFileError):
    """Correct the TOML of the study file there and run the same command again."""


class ChangeRefusedError(StudyFileError):
    """Correct the named field of --set and run the same command again."""


class UsageError(FleetError):
    """See the command's --help for what it takes."""

    exit_code = 2


class SourceError(FleetError):
    """Give a CSV file, or a storage of Optuna's; docs/steering.md says what is read of them."""

    exit_code = 2


class SteeringError(FleetError):
    """See `trialfleet status` for where the study stands, and docs/steering.md for what it can."""

    exit_code = 2


class NothingToShowError(FleetError):
    """Choose another plot, or wait until the study has got so far."""

    exit_code = 2


class NeverToShowError(NothingToShowError):
    """Choose another plot: this study will have nothing more to show."""


class SystemRefusedError(FleetError):
    """Free what the message names (space, rights, or the name), then run the same command again."""

    exit_code = 2

    @classmethod
    def of(cls, error: OSError, what: str = "") -> SystemRefusedError:
        """The system's refusal as one line: what could not be done, to which file, and why."""
        path = f"{error.filename}: " if error.filename is not None else ""
        missing = error.filename is not None and error.errno == errno.ENOENT
        kind = PathNotFoundError if missing else cls
        return kind(f"{what and what + ': '}{path}{error.strerror or error}")


class PathNotFoundError(SystemRefusedError):
    """Check that path, then run the same command again."""


class DatabaseRefusedError(FleetError):
    """Grant the right or change the setting that the message names, then run the same command."""

    exit_code = 2


class StudyMismatchError(FleetError):
    """Give the changed study a new name, or restore the file it was created from."""

    exit_code = 2


class StudyNotFoundError(FleetError):
    """Check the study's name with `trialfleet status`, or create it with `trialfleet run`."""

    exit_code = 2


class StudyDeletedError(StudyNotFoundError):
    """Create it again with `trialfleet run` or `trialfleet coordinate`, if that was a mistake."""


class VersionMismatchError(FleetError):
    """Install the version that created the study, or create it under another name with this one."""

    exit_code = 2


class SchemaNotReadyError(FleetError):
    """Run `trialfleet migrate` once with the database owner's URL."""

    exit_code = 3


class StudyFailedError(FleetError):
    """Mend the cause, then `trialfleet retry` lets it go on; `trialfleet delete` frees its name."""

    exit_code = 4


class DatabaseUnavailableError(FleetError):
    """Check that PostgreSQL is up and that the database URL is right, then run the same command."""

    exit_code = 5


class DatabaseLockedError(DatabaseUnavailableError):
    """Wait for who holds the lock (`pg_blocking_pids` names it), then run the same command."""


class DatabaseLimitError(DatabaseUnavailableError):
    """Run fewer workers, or raise the limit that the message names.

    Args:
        message: What PostgreSQL said.
        remedy: What to do about this limit.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self._remedy = remedy

    @property
    def remedy(self) -> str:
        """What to do about this limit."""
        return self._remedy or super().remedy


class LeaseLostError(FleetError):
    """Nothing: another worker has the trial, and this one takes the next."""


class ArtifactStoreError(FleetError):
    """Give the artifact store space, rights or its server back; the workers then go on."""

    exit_code = 6


class BlobDamagedError(FleetError):
    """Restore the artifact store from a backup, or run the study again under a new name."""

    exit_code = 6
