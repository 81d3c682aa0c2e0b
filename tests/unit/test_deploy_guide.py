"""docs/deploy.md: its commands parse, what they name is there, and its SQL does what it should."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
import yaml
from sqlalchemy import URL

from migrations.roles import Login
from tests.support.server import Server, plain
from trialfleet.cli.schema import migrate

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
# What the guide may set besides what our own files read: other programs' variables.
FOREIGN = {"AWS_REGION", "COMPOSE_FILE"}


def blocks(language: str) -> list[str]:
    """The guide's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Its commands, without the prompt; a line that ends in a backslash goes on."""
    found = []
    for block in blocks("console"):
        found += re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    return found


@pytest.mark.parametrize("command", commands())
def test_a_shell_can_parse_the_command(command: str) -> None:
    subprocess.run(["sh", "-n", "-c", command], check=True)


def test_every_file_that_it_names_is_there() -> None:
    links = {link for link in re.findall(r"\]\(([^)#]+)\)", GUIDE) if "://" not in link}
    assert len(links) >= 5
    for link in links:
        assert (ROOT / "docs" / link).exists(), link
    for path in re.findall(r"(?<![\w/])(?:deploy|studies|benchmarks|trialfleet)/[\w./@-]+", GUIDE):
        if "/secrets" not in path:
            assert (ROOT / path.rstrip(".")).exists(), path


def test_every_section_that_it_points_to_is_there() -> None:
    titles = re.findall(r"^#+ (.+)$", GUIDE, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", GUIDE)) <= anchors


def test_every_variable_that_it_sets_is_one_that_something_reads() -> None:
    readers = [
        *(ROOT / "deploy").rglob("*.yml"),
        ROOT / "docker-compose.yml",
        ROOT / "Makefile",
        ROOT / "trialfleet" / "settings.py",
    ]
    text = "\n".join(path.read_text(encoding="utf-8") for path in readers)
    fields = re.findall(r"^    (\w+): ", text, flags=re.MULTILINE)
    known = set(re.findall(r"\$\{(\w+)", text))
    known |= set(re.findall(r"^(\w+) \?=", text, flags=re.MULTILINE))
    known |= {f"TRIALFLEET_{field.upper()}" for field in fields} | FOREIGN
    cloud_init = (ROOT / "deploy" / "cloud-init.yaml").read_text(encoding="utf-8")
    known |= set(re.findall(r"^ +([A-Z]+)=", cloud_init, flags=re.MULTILINE))
    told = set(re.findall(r"\b([A-Z][A-Z_]+)=", GUIDE))
    told |= set(re.findall(r"^\| (`[A-Z_`, ]+`)", GUIDE, flags=re.MULTILINE))
    names = {name for each in told for name in re.findall(r"[A-Z_]+", each)}
    names |= {name for block in blocks("yaml") for name in re.findall(r"([A-Z_]{3,}):", block)}
    assert "STUDY" in names
    assert {name.removesuffix("_FILE") if name not in known else name for name in names} <= known


def test_the_defaults_that_it_tells_are_the_compose_files() -> None:
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([A-Z_]+)` \| `([^`]+)` \|", GUIDE, flags=re.MULTILINE)
    assert len(rows) >= 5
    for name, default in rows:
        assert set(re.findall(rf"\$\{{{name}:-([^}}]*)\}}", compose)) == {default}, name


@pytest.mark.parametrize("block", blocks("yaml"))
def test_a_compose_file_in_it_changes_services_that_there_are(block: str) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert yaml.safe_load(block)["services"].keys() <= compose["services"].keys()


@pytest.mark.parametrize("script", sorted((ROOT / "deploy").rglob("*.sh")), ids=lambda p: p.name)
def test_a_shell_can_parse_every_script(script: Path) -> None:
    shell = script.read_text(encoding="utf-8").splitlines()[0].removeprefix("#!")
    subprocess.run([shell, "-n", script], check=True)


@pytest.fixture
def administrator(server: Server) -> Iterator[URL]:
    """A managed server's administrator: not a superuser, but one who may make what is needed."""
    server.execute("CREATE ROLE administrator LOGIN CREATEROLE CREATEDB")
    yield server.url.set(username="administrator")
    server.execute("DROP DATABASE IF EXISTS trialfleet WITH (FORCE)")
    for role in ("fleet_worker", "owner", "administrator"):
        server.execute(f"DROP ROLE IF EXISTS {role}")


def test_what_it_asks_of_a_managed_servers_administrator_is_enough_and_possible(
    administrator: URL,
) -> None:
    [sql] = blocks("sql")
    before, after = sql.split("\\connect trialfleet\n")
    inside = administrator.set(database="trialfleet")
    for url, script in ((administrator, before), (inside, after)):
        connection = psycopg2.connect(plain(url))
        connection.autocommit = True
        with connection.cursor() as cursor:
            for line in script.splitlines():
                cursor.execute(line)
        connection.close()
    owner = inside.set(username="owner")
    migrate(owner, [Login(role="worker", name="fleet_worker", password="x")])
    with psycopg2.connect(plain(inside.set(username="fleet_worker"))) as worker:
        worker.cursor().execute("SELECT count(*) FROM fleet.attempts")
    worker.close()
