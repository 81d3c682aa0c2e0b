"""Reading results from elsewhere: a CSV file, or a study in any storage of Optuna's.

Nothing is ever written to a source: an SQLite file is opened for reading alone, and another
database only once it is known to be Optuna's.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialfleet.checking.mistakes import nearest
from trialfleet.errors import DatabaseUnavailableError, SourceError, SystemRefusedError, UsageError
from trialfleet.escape import printable
from trialfleet.store.steering import tables
from trialfleet.store.steering.configurations import Names
from trialfleet.store.steering.importing import Result, measured_by, numbers_in
from trialfleet.study.spec import Spec

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial
    from sqlalchemy import URL

_SQLITE = b"SQLite format 3\0"
_PICKLE = b"\x80"
_SHOWN = 20  # names of studies in a message
# What to install where SQLAlchemy's driver is missing, by its module's name.
_DRIVERS = {"MySQLdb": "mysqlclient", "pymysql": "pymysql", "psycopg": "psycopg"}


def results(source: str, name: str | None, spec: Spec, names: Names | None = None) -> list[Result]:
    """The COMPLETE trials of a source.

    Args:
        source: A URL, as Optuna's commands take it; or a file: CSV, SQLite, or of a journal. A file
            is told by what it begins with, whatever it is called.
        name: Of the study in a storage; None for the only one.
        spec: What our study asks for.
        names: What is called otherwise there.

    Raises:
        SourceError: It is none of these, cannot be read, or has no such study, or one of other
            objectives.
        SystemRefusedError: The system does not let us read the file.
    """
    if "://" in source:
        return _of_storage(_database(source), name, spec)
    path = Path(source)
    try:
        with path.open("rb") as file:
            begin = file.read(4_096)
    except OSError as exc:
        raise SystemRefusedError.of(exc) from exc
    if begin.startswith(_SQLITE):
        return _of_storage(_sqlite(path), name, spec)
    if begin.startswith(_PICKLE):
        raise SourceError(
            f"{path} is a pickle, which runs code of its own when it is opened; open it where you"
            ' made it, and write study.trials_dataframe().to_csv("trials.csv", index=False)'
        )
    if _is_journal(begin):
        return _of_storage(_journal(path), name, spec)
    if b"\0" in begin:
        raise SourceError(f"{path} is neither a CSV file nor SQLite's, nor a journal of Optuna's")
    if name is not None:
        raise SourceError(f"--study: {path} is a CSV file, and has no studies to choose from")
    return tables.from_csv(path, spec, names)


def _of_storage(storage: Any, name: str | None, spec: Spec) -> list[Result]:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return _of_study(storage, name, spec)
    except SQLAlchemyError as exc:
        reason = str(getattr(exc, "orig", None) or exc)
        raise SourceError(f"the storage cannot be read: {_first_line(reason)}") from None


def _of_study(storage: Any, name: str | None, spec: Spec) -> list[Result]:
    import optuna

    known = [each.study_name for each in storage.get_all_studies()]
    if name is None and len(known) != 1:
        if not known:
            raise SourceError("there is no study in it")
        raise SourceError(f"--study must say which of {len(known)} studies: {_listed(known)}")
    if name is not None and name not in known:
        there = f"there are {_listed(known)}" if known else "there is none"
        raise SourceError(f"--study: no study is called {name!r}{nearest(name, known)}; {there}")
    study = optuna.load_study(study_name=name or known[0], storage=storage)
    _refuse_other_directions(study, spec)
    trials = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    return [
        _result(study.study_name, trial)
        for trial in trials
        if all(math.isfinite(value) for value in trial.values)
    ]


def _refuse_other_directions(study: optuna.Study, spec: Spec) -> None:
    there = ["max" if each.name == "MAXIMIZE" else "min" for each in study.directions]
    here = ["max" if each.maximize else "min" for each in spec.search.objectives]
    if there != here:
        raise SourceError(
            f"the directions of study {study.study_name!r} there are {', '.join(there)}, and those"
            f" of {spec.name!r} are {', '.join(map(str, spec.search.objectives))}; write the"
            " results that you want to a CSV file with a column for each objective"
        )


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(map(repr, names[:_SHOWN])) + (f" and {more} more" if more > 0 else "")


def _result(study: str, trial: FrozenTrial) -> Result:
    ours = trial.user_attrs.get("constraints")
    measured = numbers_in(trial.user_attrs)
    if isinstance(ours, dict):
        measured |= measured_by(ours)
    begun, ended = trial.datetime_start, trial.datetime_complete
    return Result(
        where=study,
        number=trial.number,
        values=trial.values,
        params=trial.params,
        measured=measured,
        # Ours are by how much of a bound they exceed it, and that may be another bound here.
        excess={} if isinstance(ours, dict) else numbers_in(trial.constraints),
        ran=(begun, ended) if begun and ended else (),
    )


def _database(source: str) -> Any:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(source)
    except (ArgumentError, ValueError):
        raise SourceError(
            "the storage's URL cannot be parsed; special characters of a password are"
            " percent-encoded"
        ) from None
    kind = url.get_backend_name()
    if kind == "sqlite":
        if not url.database or url.database == ":memory:":
            raise SourceError(
                "a study in memory ends with its process; write"
                ' study.trials_dataframe().to_csv("trials.csv", index=False) there'
            )
        return _sqlite(Path(url.database))
    if kind in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg2")
    return _opened(url, f"{kind}://{url.host or ''}/{url.database or ''}")


def _sqlite(path: Path) -> Any:
    from sqlalchemy import URL

    try:
        with path.open("rb") as file:
            begin = file.read(len(_SQLITE))
    except OSError as exc:
        raise SystemRefusedError.of(exc) from exc
    if begin != _SQLITE:
        raise SourceError(f"{path} is no SQLite file")
    read_only = {"mode": "ro", "uri": "true"}
    whole = f"file:{path.resolve().as_uri().removeprefix('file://')}"
    return _opened(URL.create("sqlite", database=whole, query=read_only), str(path))


def _opened(url: URL, shown: str) -> Any:
    """Optuna's storage at a URL, if it is one; `shown` names it without a password."""
    from optuna.storages import RDBStorage
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

    from trialfleet.postgres.refusals import translated_errors
    from trialfleet.postgres.url import hide_password, optuna_url

    try:
        engine = create_engine(url)
        with translated_errors(url), engine.connect() as connection:
            there = inspect(connection).get_table_names()
        engine.dispose()
        # Optuna would fill in what it misses.
        if not {"studies", "trials", "version_info", "alembic_version"} <= {*there}:
            raise SourceError(f"{shown} has no tables of Optuna's")
        return RDBStorage(optuna_url(url), skip_table_creation=True)
    except NoSuchModuleError:
        raise SourceError(f"{url.drivername}:// is no database that SQLAlchemy knows") from None
    except ImportError as exc:
        driver = exc.name or str(exc)
        package = _DRIVERS.get(driver, driver)
        raise SourceError(
            f"reading {url.drivername}:// takes the module {driver!r}, which is not installed here;"
            f" `pip install {package}`"
        ) from None
    except (DatabaseUnavailableError, UsageError) as exc:
        raise SourceError(f"{shown} cannot be read: {exc}") from None
    except (SQLAlchemyError, RuntimeError) as exc:
        # RuntimeError: the tables are of another version of Optuna's.
        reason = str(getattr(exc, "orig", None) or exc)
        raise SourceError(
            f"{shown} cannot be read: {_first_line(hide_password(reason, url))}"
        ) from None


def _is_journal(begin: bytes) -> bool:
    """Whether a file begins as a journal of Optuna's does: a JSON object a line, with its code."""
    return begin.startswith(b"{") and b'"op_code"' in begin.split(b"\n", 1)[0]


def _journal(path: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        return JournalStorage(JournalFileBackend(str(path)))
    except Exception as exc:  # whatever comes of replaying lines that are not as they were written
        raise SourceError(
            f"{path} is a journal that cannot be read ({type(exc).__name__}:"
            f" {_first_line(str(exc))})"
        ) from None


def _first_line(text: str) -> str:
    return printable((text.strip().splitlines() or ["no reason given"])[0])
