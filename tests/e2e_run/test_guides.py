"""The guides are true: their commands parse, their files work, and what they point to is there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest
import typer
import yaml

from tests.support.processes import Commands
from trialfleet.cli.commands import arguments
from trialfleet.cli.main import app
from trialfleet.study.file import parse

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")


@cache
def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The page's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text(page), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """The page's shell commands; a line that ends in a backslash goes on."""
    found: list[str] = []
    for block in blocks(page, "console"):
        found += [part.strip() for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return found


def anchors(page: Path) -> set[str]:
    """What GitHub calls the page's sections."""
    prose = re.sub(r"^```.*?^```$", "", text(page), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_picture_leads_somewhere(page: Path) -> None:
    lost = []
    for link in ("".join(pair) for pair in LINK.findall(text(page))):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def test_every_picture_is_shown_somewhere_and_small() -> None:
    shown = {
        (page.parent / "".join(pair)).resolve()
        for page in PAGES
        for pair in LINK.findall(text(page))
    }
    for picture in (DOCS / "images").iterdir():
        assert picture in shown
        assert picture.stat().st_size < (1_000_000 if picture.suffix == ".gif" else 300_000)


def test_the_readme_leads_to_every_page() -> None:
    reached = {link for pair in LINK.findall(text(ROOT / "README.md")) for link in pair}
    assert {f"docs/{page.name}" for page in DOCS.glob("*.md")} - reached == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_ours_is_one_that_we_have(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names, options and their values; what it does is the matter of other tests."""
    for act in ("allow", "allow_imports"):  # parsing does these, for the whole process
        monkeypatch.setattr(arguments, act, list)
    known = typer.main.get_group(app).commands
    shell = re.findall(r"^!(trialfleet .+)$", text(page), re.MULTILINE)  # a notebook's
    for command in [*commands(page), *shell]:
        words = shlex.split(command.replace("…", "x"))
        if words[0] != "trialfleet":
            continue
        if words[1].startswith("--"):
            continue
        with known[words[1]].make_context(words[1], words[2:]):
            pass


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_benchmark_is_there_with_its_options(page: Path) -> None:
    for command in commands(page):
        words = shlex.split(command)
        if words[:2] != ["python", "-m"]:
            continue
        path = ROOT / Path(*words[2].split("."))
        path = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        for option in (word for word in words[3:] if word.startswith("--")):
            assert f'"{option}"' in path.read_text(encoding="utf-8"), command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_study_file_is_one(page: Path) -> None:
    for block in blocks(page, "toml"):
        if block.startswith("name = "):
            parse(block, source=page.name)
        elif block.startswith("[task]"):  # the part that the page is about
            parse(f'name = "part"\n{block}', source=page.name)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Commands]:
    """A folder with the files of docs/environments.md."""
    [module] = blocks(DOCS / "environments.md", "python")
    *_, study = blocks(DOCS / "environments.md", "toml")
    (tmp_path / "corridor.py").write_text(module, encoding="utf-8")
    (tmp_path / "corridor.toml").write_text(study, encoding="utf-8")
    with closing(Commands(tmp_path, None)) as starter:
        yield starter


def test_the_environment_of_the_guide_is_checked_and_trained(folder: Commands) -> None:
    """As the guide says it, but for the length of the study."""
    assert "1 observation, 2 actions" in folder.run("check", "corridor.toml").stdout
    file = folder.folder / "corridor.toml"
    short = file.read_text(encoding="utf-8")
    for given, tiny in {
        "train_steps = 4_000": "train_steps = 64",
        "eval_every = 1_000": "eval_every = 64\neval_episodes = 1\nscore_episodes = 1",
        "learning_starts = 200": "learning_starts = 8",
        "trials = 12": "trials = 1",
        "top = 2": "top = 1",
        "seeds = 8": "seeds = 1\nepisodes = 1",
        "confirm = 12": "confirm = 1",
    }.items():
        assert short.count(given) == 1
        short = short.replace(given, tiny)
    file.write_text(short, encoding="utf-8")
    folder.run("run", "corridor.toml", "--workers", "1")
    assert (folder.folder / "models" / "corridor.safetensors").is_file()


def test_the_environment_of_the_guide_gets_into_the_containers() -> None:
    """What the files in docs/environments.md rest on is so in Dockerfile and docker-compose.yml."""
    page = DOCS / "environments.md"
    dockerfile, compose = (
        text(ROOT / "Dockerfile"),
        yaml.safe_load(text(ROOT / "docker-compose.yml")),
    )
    [runtime] = re.findall(r"^WORKDIR (/opt/\S+)$", dockerfile, re.MULTILINE)
    [recipe] = blocks(page, "dockerfile")
    assert f"COPY corridor.py {runtime}/" in recipe
    assert recipe.startswith("FROM trialfleet-worker:local\n")
    assert f"USER {re.findall(r'^USER (.+)$', dockerfile, re.MULTILINE)[-1]}" in recipe
    assert "/opt/venv/bin/python" in recipe
    assert "python -m venv --without-pip /opt/venv" in dockerfile
    mounted, replaced = (yaml.safe_load(block)["services"] for block in blocks(page, "yaml"))
    for services in (mounted, replaced):
        assert services.keys() <= compose["services"].keys()
    for service in mounted.values():
        assert service["volumes"] == [f"./corridor.py:{runtime}/corridor.py:ro"]
    # The service that imports the environment before anything is stored.
    assert compose["services"]["check"]["command"][0] == "check"


def test_the_variables_of_the_guides_are_settings() -> None:
    known = text(ROOT / "trialfleet" / "settings.py")
    for page in ("environments", "notebook", "first-study"):
        for name in re.findall(r"TRIALFLEET_([A-Z_]+)", text(DOCS / f"{page}.md")):
            assert f"    {name.lower()}: " in known, name


def test_a_shell_can_parse_every_command() -> None:
    lines = "\n".join(command for page in PAGES for command in commands(page))
    subprocess.run(["sh", "-n"], input=lines, text=True, check=True, env={**os.environ})


@pytest.fixture
def from_optuna(tmp_path: Path) -> Iterator[Commands]:
    """A folder with the old study and the new file of docs/steering.md, and nothing else."""
    section = text(DOCS / "steering.md").split("## From Optuna\n")[1].split("\n## ")[0]
    [script] = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    [study] = re.findall(r"^```toml\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    (tmp_path / "old.py").write_text(script, encoding="utf-8")
    subprocess.run([sys.executable, "old.py"], cwd=tmp_path, check=True, capture_output=True)
    for given, tiny in {
        "train_steps = 30_000": "train_steps = 64\nseeds = 2",
        "eval_every = 1_250": "eval_every = 64\neval_episodes = 1\nscore_episodes = 1",
        "[agent]": "[agent]\nlearning_starts = 8\nbatch_size = 4\nbuffer_size = 64",
        "trials = 50": "trials = 2\n[final]\ntop = 1\nseeds = 2\nconfirm = 2\nepisodes = 1",
    }.items():
        assert study.count(given) == 1
        study = study.replace(given, tiny)
    (tmp_path / "dqn.toml").write_text(study, encoding="utf-8")
    with closing(Commands(tmp_path, None)) as starter:
        yield starter


def test_a_study_of_optunas_is_gone_on_with_as_the_guide_says(from_optuna: Commands) -> None:
    section = text(DOCS / "steering.md").split("## From Optuna\n")[1].split("\n## ")[0]
    import_it, run_it = re.findall(r"^\$ trialfleet (.+)$", section, re.MULTILINE)
    told = from_optuna.run(*shlex.split(import_it)).stdout.strip()
    assert f"The first says `{told}`" in section
    from_optuna.run(*shlex.split(run_it), "--workers", "1")
    status = from_optuna.run("status").stdout
    assert "search 2/2" in status
    assert "40 imported trials beside the budget" in status
    assert "imported: trial 0 of dqn" in from_optuna.run("logs", "dqn", "0").stdout
    assert "finished" in from_optuna.run("logs", "dqn", "40").stdout
    assert (from_optuna.folder / "models" / "dqn.safetensors").is_file()
