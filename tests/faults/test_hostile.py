"""Names, ids and paths that were made to do harm: row 20 of the faults."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import text

from coordinator.watch import step
from tests.faults.fleet import STUDY, Fleet
from tests.faults.processes import eventually
from tests.support.commands import command, told
from tests.support.models import saved_agent
from tests.support.server import plain
from tests.support.studies import (
    create,
    take,
    train_by_hand,
    trivial_study,
)
from trialfleet.artifacts import blobs
from trialfleet.artifacts.blobs import Stored
from trialfleet.artifacts.database import DatabaseStore
from trialfleet.artifacts.folder import FolderStore
from trialfleet.cli.join import wait_for_study
from trialfleet.errors import BlobDamagedError, StudyNotFoundError
from trialfleet.escape import printable
from trialfleet.store.storage import Database

HOSTILE = {
    "quotes": """Robert'); DROP TABLE fleet.studies; -- " ` $(id) %s %(x)s {0}""",
    "NUL": "stu\0dy",
    "long": "x" * 600,
    "dots": "../../escaped",
    "script": "<script>alert(1)</script>",
    "right to left": "abc\u202egnp.exe",
    "escape": "\x1b[2J\x1b[31mred\x07",
    "markup": "[bold]b[/bold] [/nothing] [link=x]",
    "lines": "one\ntwo\r\nthree",
    "no text": "\udcff",  # how Python reads a byte that is no UTF-8
}
hostile = pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)


def count_studies(database: Database) -> int:
    with database.transaction() as connection:
        return int(connection.scalar(text("SELECT count(*) FROM fleet.studies")) or 0)


@hostile
@pytest.mark.usefixtures("_here")
def test_20_a_study_of_that_name_is_refused_before_anything_is_written(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    written = f'"{toml_escaped(name)}"'
    content = trivial_study().replace('"trivial"', written, 1)
    (tmp_path / "study.toml").write_text(content, encoding="utf-8")
    assert command("coordinate", "study.toml") == 2
    assert told(capsys).startswith("trialfleet: study.toml: ")
    assert count_studies(database) == 0


def toml_escaped(name: str) -> str:
    """A TOML string's inside; what TOML forbids too is refused as well."""
    return "".join(f"\\U{ord(character):08x}" for character in name)


@hostile
@pytest.mark.usefixtures("_here")
def test_20_nobody_finds_a_study_of_that_name(
    database: Database, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    create(database)
    with pytest.raises(StudyNotFoundError):
        wait_for_study(database, name, None, 0.0, time.sleep)
    for arguments in (["status", name], ["best", name], ["replay", name, "0"]):
        assert command(*arguments) == 2, arguments
        assert "no study is called" in told(capsys)
    assert count_studies(database) == 1


@pytest.mark.parametrize(
    "env",
    [
        *HOSTILE.values(),
        # Of characters that an id may have.
        "../evil:Env-v0",
        "..evil:Env-v0",
        "evil/../evil:Env-v0",
        "/tmp/evil:Env-v0",
        "../../../evil",
    ],
    ids=ascii,
)
@pytest.mark.usefixtures("_here")
def test_20_an_environment_of_that_id_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], env: str
) -> None:
    # A module that a path would lead to, beside the current folder and in it.
    for folder in (tmp_path, tmp_path / "below"):
        folder.mkdir(exist_ok=True)
        (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')", encoding="utf-8")
    os.chdir(tmp_path / "below")
    content = trivial_study().replace('"CartPole-v1"', f'"{toml_escaped(env)}"', 1)
    Path("study.toml").write_text(content, encoding="utf-8")
    assert command("check", "study.toml") == 2
    line = told(capsys)
    assert line.startswith("trialfleet: study.toml: ")
    if env in HOSTILE.values() and env != HOSTILE["dots"]:
        # Long before anybody looks for it.
        assert "must be the id of a Gymnasium environment" in line or "TOML" in line
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["database", "file"])
def test_20_no_artifacts_name_in_the_database_leads_out_of_the_store(
    database: Database, tmp_path: Path, kind: str
) -> None:
    # The rows of a study that somebody has tampered with.
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    sha256 = hashlib.sha256(b"secret").hexdigest()
    store = DatabaseStore(database) if kind == "database" else FolderStore(tmp_path / "store")
    (tmp_path / "store").mkdir()
    for name in ("../secret", str(secret), "./../secret", "..\\secret"):
        with pytest.raises(BlobDamagedError, match="not in the store"):
            blobs.get(store, Stored(artifact=name, sha256=sha256, size=6))


def test_20_a_host_of_that_name_is_kept_to_the_letter_and_shown_escaped(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # What a machine can be called: any bytes but NUL.
    hosts = [
        " ".join(HOSTILE[each] for each in ("quotes", "script", "right to left", "escape")),
        " ".join(HOSTILE[each] for each in ("dots", "markup", "lines", "long")),
        # A log quotes what holds a blank or a quote, and this has none.
        HOSTILE["right to left"] + HOSTILE["escape"] + HOSTILE["no text"],
    ]
    fleet.create(trials=len(hosts))
    workers = [fleet.worker(steer="slow", FAULTS_HOST=host) for host in hosts]
    eventually(
        lambda: all(fleet.outcomes(number) == [None] for number in range(len(hosts))),
        "each has a trial",
    )
    stored = {row.host for row in fleet.rows("SELECT host FROM fleet.workers")}
    assert stored == {*hosts[:2], hosts[2].replace("\udcff", r"\udcff")}
    monkeypatch.setenv("TRIALFLEET_DATABASE_URL", plain(fleet.url))
    monkeypatch.setattr("trialfleet.cli.show.console.out", Console(width=2000))  # cuts nothing off
    assert command("status", STUDY) == 0
    shown = capsys.readouterr().out
    assert command("status", STUDY, "--json") == 0
    assert {each["host"] for each in json.loads(capsys.readouterr().out)["workers"]} == stored
    for worker in workers:
        worker.steer("")
    fleet.ends()
    for output in (shown, *(worker.output for worker in workers)):
        assert all(line.isprintable() for line in output.splitlines()), ascii(output)
    assert r"abc\u202egnp.exe \x1b[2J\x1b[31mred\x07" in shown
    assert r"[bold]b[/bold] [/nothing] [link=x] one\ntwo\r\nthree xxx" in shown
    for worker in workers:
        assert worker.ends() == 0
        assert "Traceback" not in worker.output


@hostile
@pytest.mark.usefixtures("_here")
def test_20_a_model_of_that_path_is_refused_or_played(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = tmp_path / "models" / "deep"
    folder.mkdir(parents=True)
    os.chdir(folder)
    assert command("evaluate", f"{name}.safetensors") == 2
    if "\0" in name:  # no command line can hold it; click's own words would be for it
        assert all(line.isprintable() for line in capsys.readouterr().err.splitlines())
        return
    assert "cannot be read" in told(capsys)
    # Where the file system can hold the name, it is the file of that name and no other.
    path = folder / f"{name.replace('/', '|')}.safetensors"
    if not writable(path):
        return
    saved_agent(folder).rename(path)
    (folder / "agent.json").rename(path.with_suffix(".json"))
    assert command("evaluate", path.name, "--episodes", "1") == 0
    assert "CartPole-v1: mean return" in capsys.readouterr().out
    path.write_bytes(b"damaged")
    assert command("evaluate", path.name) == 2
    assert "do not match the SHA-256" in told(capsys)


@pytest.mark.usefixtures("_here")
def test_20_a_folder_of_any_name_takes_the_best_agent(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = create(database, trials=1, top=1, final_seeds=2)
    for _ in ("search", "final"):
        train_by_hand(database, study, take(database), scores=[1.0, 1.0])
        step(database, study.name)
    for folder in ("[/nothing]", "a\u202eb\x1b[31m", "'; DROP TABLE fleet.studies; --"):
        assert command("best", STUDY, "--out", folder) == 0
        said = capsys.readouterr().out
        assert all(line.isprintable() for line in said.splitlines()), ascii(said)
        assert f"saved: {printable(folder)}/trivial.safetensors" in said
        assert (tmp_path / folder / "trivial.safetensors").is_file()
    assert command("best", STUDY, "--out", "x" * 600) == 2
    assert "File name too long" in capsys.readouterr().err


def writable(path: Path) -> bool:
    try:
        path.touch()
    except (OSError, ValueError):
        return False
    return True


@pytest.mark.parametrize("manifest", ["{}", '{"sha256": 1}', '{"sha256": "x", "task": {"env": 1}}'])
@pytest.mark.usefixtures("_here")
def test_20_a_manifest_that_was_made_up_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], manifest: str
) -> None:
    path = saved_agent(tmp_path)
    path.with_suffix(".json").write_text(manifest, encoding="utf-8")
    assert command("evaluate", str(path)) == 2
    assert "not the manifest of an agent" in told(capsys)
