"""The environment becomes one checked object, or one line that names the variable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from trialfleet.errors import UsageError
from trialfleet.settings import Settings, child_environment, load_settings


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in list(os.environ):
        if variable.startswith("TRIALFLEET_"):
            monkeypatch.delenv(variable)


def test_everything_has_a_default() -> None:
    settings = load_settings()
    assert settings == Settings()
    assert settings.database_url is None
    assert (settings.lease_seconds, settings.poll_seconds, settings.device) == (30.0, 1.0, "cpu")


@pytest.mark.parametrize(
    ("variable", "value", "field", "parsed"),
    [
        ("LEASE_SECONDS", "5", "lease_seconds", 5.0),
        ("POLL_SECONDS", "0.05", "poll_seconds", 0.05),
        ("MIGRATION_PATIENCE", "0", "migration_patience", 0.0),
        ("OUTAGE_PATIENCE", "1e3", "outage_patience", 1000.0),
        ("CHECKPOINT_EVERY", "0", "checkpoint_every", 0.0),
        ("ARTIFACTS", "file:///srv/models", "artifacts", "file:///srv/models"),
        ("DEVICE", "cuda", "device", "cuda"),
        ("LOG_FORMAT", "json", "log_format", "json"),
    ],
)
def test_every_setting_is_read_from_the_environment_or_from_a_file(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variable: str,
    value: str,
    field: str,
    parsed: object,
) -> None:
    monkeypatch.setenv(f"TRIALFLEET_{variable}", value)
    assert getattr(load_settings(), field) == parsed
    monkeypatch.delenv(f"TRIALFLEET_{variable}")
    secret = tmp_path / "secret"
    secret.write_text(f"{value}\n")
    monkeypatch.setenv(f"TRIALFLEET_{variable}_FILE", str(secret))
    assert getattr(load_settings(), field) == parsed


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LEASE_SECONDS", "soon"),
        ("LEASE_SECONDS", ""),
        ("LEASE_SECONDS", "0.9"),
        ("LEASE_SECONDS", "86401"),
        ("LEASE_SECONDS", "nan"),
        ("LEASE_SECONDS", "inf"),
        ("POLL_SECONDS", "0"),
        ("POLL_SECONDS", "61"),
        ("MIGRATION_PATIENCE", "-1"),
        ("MIGRATION_PATIENCE", "nan"),
        ("OUTAGE_PATIENCE", "-1"),
        ("OUTAGE_PATIENCE", "nan"),
        ("CHECKPOINT_EVERY", "-1"),
        ("CHECKPOINT_EVERY", "nan"),
        ("DEVICE", "tpu"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_an_illegal_value_is_told_by_the_variables_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(f"TRIALFLEET_{variable}", value)
    with pytest.raises(UsageError, match=f"^TRIALFLEET_{variable}: ") as refused:
        load_settings()
    assert "\n" not in str(refused.value)


def test_a_password_shows_up_in_no_print_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIALFLEET_DATABASE_URL", "postgresql://user:hunter2@host/database")
    settings = load_settings()
    assert settings.database_url is not None
    assert "hunter2" in settings.database_url.get_secret_value()
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert "hunter2" not in shown


def test_a_file_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing, folder, binary = tmp_path / "none", tmp_path, tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for path, why in ((missing, "No such file"), (folder, "directory"), (binary, "UTF-8")):
        monkeypatch.setenv("TRIALFLEET_DATABASE_URL_FILE", str(path))
        with pytest.raises(UsageError, match=why) as refused:
            load_settings()
        assert "TRIALFLEET_DATABASE_URL_FILE" in str(refused.value)
        assert str(path) in str(refused.value)


def test_settings_do_not_change() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.lease_seconds = 5.0


def test_a_child_gets_our_environment_with_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIALFLEET_DEVICE", "cuda")
    monkeypatch.setenv("TRIALFLEET_LEASE_SECONDS", "5")
    child = child_environment(lease_seconds="7", database_url="postgresql://host/database")
    assert child["TRIALFLEET_DEVICE"] == "cuda"
    assert child["TRIALFLEET_LEASE_SECONDS"] == "7"
    assert child["TRIALFLEET_DATABASE_URL"] == "postgresql://host/database"
    assert child["PATH"] == os.environ["PATH"]
    # Ours stays as it is.
    assert os.environ["TRIALFLEET_LEASE_SECONDS"] == "5"


def test_what_editors_and_shells_add_is_not_part_of_a_value(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "url"
    secret.write_bytes("\ufeffpostgresql://host/database\r\n".encode())
    monkeypatch.setenv("TRIALFLEET_DATABASE_URL_FILE", str(secret))
    monkeypatch.setenv("TRIALFLEET_ARTIFACTS", " database\n")
    settings = load_settings()
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == "postgresql://host/database"
    assert settings.artifacts == "database"
