"""The embedded server: who may use it, whatever the folder and the environment are called."""

from __future__ import annotations

import multiprocessing
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tests.support.processes import Commands
from tests.support.studies import trivial_study
from trialfleet.errors import DatabaseUnavailableError, SystemRefusedError, UsageError
from trialfleet.postgres.embedded import embedded_postgres
from trialfleet.postgres.url import parse_url

CONFIGURATION = "fsync = off\n"
HOLD = """
import sys
from pathlib import Path
from trialfleet.postgres.embedded import embedded_postgres

with embedded_postgres(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that any user can reach, unlike pytest's own."""
    made = Path(tempfile.mkdtemp(prefix="embedded-", dir="/tmp"))
    yield made
    shutil.rmtree(made)


def answers(url: str) -> int:
    engine = create_engine(parse_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        return int(connection.scalar(text("SELECT 6 * 7")))


def servers(data: Path) -> list[int]:
    """The processes that have the data's folder as their current one, by their ids."""
    found = []
    for process in psutil.process_iter():
        try:
            here = os.path.samefile(process.cwd(), data)
        except (psutil.Error, OSError):
            continue
        if here and process.name() == "postgres" and process.ppid() not in found:
            found.append(process.pid)
    return found


def hold(data: Path) -> subprocess.Popen[str]:
    """Another process that uses the server until it is killed or its input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    "name", ["a b&c; 'd' \"e\" (f) 100%s $HOME `g`", "ü" * 60], ids=["characters", "length"]
)
def test_a_folder_may_have_any_name(folder: Path, name: str) -> None:
    data = folder / name / "pg"
    with embedded_postgres(data, configuration=CONFIGURATION) as url:
        assert answers(url) == 42
    assert servers(data) == []


def test_the_environment_does_not_change_the_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")  # not installed here
    monkeypatch.setenv("LANG", "xx_XX")
    monkeypatch.setenv("PGPORT", "7")
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("TMPDIR", "/tmp")
    with embedded_postgres(folder / "pg", configuration=CONFIGURATION) as url:
        engine = create_engine(parse_url(url), poolclass=NullPool)
        with engine.connect() as connection:
            assert connection.scalar(text("SHOW lc_messages")) == "C"
            assert connection.scalar(text("SHOW server_encoding")) == "UTF8"


# Characters that mean something in a URL, to libpq, in a list of folders or in a configuration.
ODD = "100%25 a+b&c=d,e 'f' \"g\" {h} #1? größe "


@pytest.fixture
def temporary(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a folder of this name the one for temporary files, to which every user may write."""

    def make(name: str) -> Path:
        folder.chmod(0o755)
        (folder / name).mkdir()
        (folder / name).chmod(0o777)
        monkeypatch.setenv("TMPDIR", str(folder / name))
        monkeypatch.setattr(tempfile, "tempdir", None)
        return folder / name

    return make


@pytest.mark.parametrize("name", [ODD, "x" * 90])
def test_a_folder_for_temporary_files_may_have_any_name(
    folder: Path, temporary: Callable[[str], Path], name: str
) -> None:
    temporary(name)
    with embedded_postgres(folder / "pg", configuration=CONFIGURATION) as url:
        assert answers(url) == 42


@pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL runs as another user for root only")
def test_a_folder_for_temporary_files_may_be_roots_alone(
    folder: Path, temporary: Callable[[str], Path]
) -> None:
    temporary("private").chmod(0o700)
    with embedded_postgres(folder / "pg", configuration=CONFIGURATION) as url:
        assert answers(url) == 42


def test_without_tmp_the_socket_lies_where_temporary_files_do(
    folder: Path, temporary: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trialfleet.postgres.cluster._TMP", str(folder / "none"))
    made = temporary("100%25 a+b&c=d {h} #1?")
    with embedded_postgres(folder / "pg", configuration=CONFIGURATION) as url:
        assert answers(url) == 42
        assert any(made.iterdir())
    assert not any(made.iterdir())


@pytest.mark.parametrize("name", ["a,b", 'say "so"', "größe", "x" * 90])
def test_a_folder_that_can_hold_no_socket_is_named(
    folder: Path, temporary: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("trialfleet.postgres.cluster._TMP", str(folder / "none"))
    temporary(name)
    with (
        pytest.raises(UsageError, match=r"TMPDIR: .*short and plain") as refused,
        embedded_postgres(folder / "pg", configuration=CONFIGURATION),
    ):
        pass
    assert "URL" not in str(refused.value)


def test_the_folder_of_the_data_may_have_any_name_of_one_line(folder: Path) -> None:
    data = folder / f"{ODD}{'x' * 150}" / "pg"
    with embedded_postgres(data, configuration=CONFIGURATION) as url:
        assert answers(url) == 42
        assert len(servers(data)) == 1
    with (
        pytest.raises(UsageError, match="line break"),
        embedded_postgres(folder / "two\nlines" / "pg"),
    ):
        pass
    assert not (folder / "two\nlines").exists()


def test_processes_share_it_and_the_last_one_stops_it(folder: Path) -> None:
    data = folder / "pg"
    with embedded_postgres(data, configuration=CONFIGURATION) as url:
        other = hold(data)
        with embedded_postgres(data) as same:
            assert same == url
    assert len(servers(data)) == 1
    other.communicate("")
    assert servers(data) == []
    assert not (data / "postmaster.pid").exists()


def test_a_user_that_was_killed_does_not_count(folder: Path) -> None:
    data = folder / "pg"
    killed = hold(data)
    killed.kill()
    killed.communicate()
    assert len(servers(data)) == 1  # nobody was left to stop it
    with embedded_postgres(data) as url:
        assert answers(url) == 42
    assert servers(data) == []


def test_a_folder_may_be_moved(folder: Path) -> None:
    before, after = folder / "before" / "pg", folder / "after" / "pg"
    killed = hold(before)
    killed.kill()
    killed.communicate()
    before.parent.rename(after.parent)
    # Its server still runs; it is joined, and stopped at the end.
    for _ in range(2):
        with embedded_postgres(after) as url:
            assert answers(url) == 42
        assert servers(after) == []


def test_a_number_in_postmaster_pid_that_another_process_has_now(folder: Path) -> None:
    data = folder / "pg"
    killed = hold(data)
    killed.kill()
    killed.communicate()
    (server,) = servers(data)
    stale = (data / "postmaster.pid").read_text().splitlines()
    os.kill(server, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(server)] if psutil.pid_exists(server) else [])
    (data / "postmaster.pid").write_text("\n".join([str(os.getpid()), *stale[1:]]) + "\n")
    with embedded_postgres(data) as url:
        assert answers(url) == 42


def test_a_server_that_does_not_start_says_why(folder: Path) -> None:
    data = folder / "pg"
    with (
        pytest.raises(DatabaseUnavailableError, match="contains errors") as refused,
        embedded_postgres(data, configuration="nonsense = on\n"),
    ):
        pass
    assert str(data / "log") in str(refused.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_data_of_another_user_is_refused_and_not_touched(folder: Path) -> None:
    data = folder / "pg"
    with embedded_postgres(data, configuration=CONFIGURATION):
        pass
    nobody = pwd.getpwnam("nobody").pw_uid
    for path in (data, *data.rglob("*")):
        os.chown(path, nobody, -1)
    before = sorted((path, path.lstat().st_uid, path.lstat().st_mode) for path in data.rglob("*"))
    with pytest.raises(UsageError, match="belongs to the user 'nobody'"), embedded_postgres(data):
        pass
    after = sorted((path, path.lstat().st_uid, path.lstat().st_mode) for path in data.rglob("*"))
    assert before == after


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_root_changes_no_folder_of_another_user(folder: Path) -> None:
    home = folder / "home"
    home.mkdir(mode=0o700)
    os.chown(home, pwd.getpwnam("nobody").pw_uid, -1)
    with (
        pytest.raises(UsageError, match="lets nobody but its owner in"),
        embedded_postgres(home / ".trialfleet" / "postgres"),
    ):
        pass
    assert home.stat().st_mode & 0o777 == 0o700
    assert list(home.iterdir()) == []


def test_a_file_in_the_way_is_one_line(folder: Path) -> None:
    (folder / ".trialfleet").write_text("")
    with (
        pytest.raises(SystemRefusedError, match=r"\.trialfleet: File exists"),
        embedded_postgres(folder / ".trialfleet" / "postgres"),
    ):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_a_second_user_of_the_machine_has_servers_too(folder: Path) -> None:
    """Nothing that a first user leaves in /tmp is in a second one's way."""
    nobody = pwd.getpwnam("nobody")
    theirs = folder / "theirs"
    theirs.mkdir()
    os.chown(theirs, nobody.pw_uid, nobody.pw_gid)

    def use() -> None:
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
        with embedded_postgres(theirs / "pg", configuration=CONFIGURATION):
            pass

    with embedded_postgres(folder / "pg", configuration=CONFIGURATION):
        second = multiprocessing.get_context("fork").Process(target=use)
        second.start()
        second.join()
    assert second.exitcode == 0
    assert (theirs / "pg" / "PG_VERSION").stat().st_uid == nobody.pw_uid
    assert servers(theirs / "pg") == []


def test_a_closed_terminal_stops_a_run_and_its_server(folder: Path) -> None:
    with closing(Commands(folder, None)) as commands:
        file = commands.study_file(trivial_study(train_steps=40_000, trials=2))
        run = commands.start("run", file, "--workers", "1", cold=True)
        data = folder / ".trialfleet" / "postgres"
        run.wait_until(lambda: (data / "postmaster.pid").exists() and "leading" in run.stderr)
        run.send(signal.SIGHUP)
        run.expect(143)
        assert servers(data) == []
