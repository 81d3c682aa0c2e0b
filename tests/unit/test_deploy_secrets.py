"""Passwords and database URLs of a deployment: made once, private, and safe in a URL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from psycopg2.extensions import parse_dsn
from sqlalchemy import make_url

ROOT = Path(__file__).parents[2]
ROLES = {"postgres", "owner", "coordinator", "worker", "dashboard"}
NASTY = "p@ss:w/o{r}d?#%41 '\"\\ü"


def make(folder: Path, *options: str) -> str:
    """Run the program; what it said."""
    program = str(ROOT / "deploy" / "image" / "make_secrets.py")
    done = subprocess.run(
        [sys.executable, program, str(folder), *options], check=True, capture_output=True, text=True
    )
    return done.stdout


def contents(folder: Path) -> dict[str, str]:
    """Every file, by its path below the folder."""
    return {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_every_role_gets_a_password_of_its_own_and_a_url_that_holds_it(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make(folder, "--host", "db.example.org", "--port", "6432", "--query", "sslmode=verify-full")
    passwords = set()
    for role in ROLES:
        password = (folder / role / "password").read_text(encoding="utf-8")
        url = make_url((folder / role / "url").read_text(encoding="utf-8"))
        assert (url.username, url.password) == (role, password)
        assert (url.host, url.port, url.database) == ("db.example.org", 6432, "trialfleet")
        assert url.query == {"sslmode": "verify-full"}
        assert len(password) >= 32
        passwords.add(password)
    assert len(passwords) == len(ROLES)


def test_nobody_else_on_the_machine_can_read_them(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make(folder)
    assert folder.stat().st_mode & 0o077 == 0


def test_a_folder_that_is_there_is_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    folder.chmod(0o755)
    assert f"closed {folder} to other users\n" in make(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o750)  # opened since then
    assert make(folder).startswith(f"closed {folder} to other users\n")
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    program = str(ROOT / "deploy" / "image" / "make_secrets.py")
    command = [sys.executable, program, str(tmp_path / "file" / "secrets")]
    refused = subprocess.run(command, check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert len(refused.stderr.splitlines()) == 1
    assert "sudo chown" in refused.stderr


def test_nothing_is_made_twice(tmp_path: Path) -> None:
    make(tmp_path)
    tmp_path.chmod(0o700)
    before = contents(tmp_path)
    assert make(tmp_path) == "the secrets are there already\n"
    assert contents(tmp_path) == before


def test_a_password_that_was_chosen_is_kept_whatever_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / "password").write_text(f"{NASTY}\n", encoding="utf-8")
    make(tmp_path)
    url = (tmp_path / "worker" / "url").read_text(encoding="utf-8")
    assert make_url(url).password == NASTY
    assert parse_dsn(url)["password"] == NASTY  # libpq's own reading is the stricter one


def test_another_host_changes_the_urls_and_no_password(tmp_path: Path) -> None:
    make(tmp_path)
    before = contents(tmp_path)
    make(tmp_path, "--host", "db.example.org")
    after = contents(tmp_path)
    for path, text in before.items():
        if path.endswith("password"):
            assert after[path] == text
        else:
            assert after[path] == text.replace("@postgres:", "@db.example.org:")


def test_a_host_may_be_an_address_of_ipv6(tmp_path: Path) -> None:
    make(tmp_path, "--host", "2001:db8::1")
    url = (tmp_path / "worker" / "url").read_text(encoding="utf-8")
    assert (make_url(url).host, make_url(url).port) == ("2001:db8::1", 5432)
    assert parse_dsn(url)["host"] == "2001:db8::1"


def test_what_scales_the_workers_gets_a_url_without_our_certificates_path(tmp_path: Path) -> None:
    make(tmp_path, "--query", "sslmode=verify-full&sslrootcert=/secrets/ca/ca.pem")
    urls = {
        name: make_url((tmp_path / "dashboard" / name).read_text(encoding="utf-8"))
        for name in ("url", "scaler")
    }
    assert urls["url"].query == {"sslmode": "verify-full", "sslrootcert": "/secrets/ca/ca.pem"}
    assert urls["scaler"] == urls["url"].set(query={"sslmode": "verify-full"})
