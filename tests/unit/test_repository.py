"""What holds of the repository's files: who names Optuna's tables, which tests are run when."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"\bpublic\.[a-z_]+")


@pytest.mark.parametrize("package", ["trialfleet", "worker", "coordinator"])
def test_only_the_store_names_optunas_tables(package: str) -> None:
    named = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / package).rglob("*.py")
        if NAMED.search(path.read_text(encoding="utf-8"))
    }
    assert {path for path in named if not path.startswith("trialfleet/store/")} == set()


def test_the_look_finds_what_it_looks_for() -> None:
    assert NAMED.search((ROOT / "trialfleet/store/trials/life.py").read_text(encoding="utf-8"))


def test_continuous_integration_runs_every_test_once() -> None:
    """Its targets split the tests by their marks; whatever has neither is in the first."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    selected = {}
    for target in re.findall(r"make (\w+)", (ROOT / ".ci" / "run").read_text(encoding="utf-8")):
        [recipe] = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
        [selected[target]] = re.findall(
            r'pytest .*?-m "?([^"\n]+?)"?(?: tests/e2e)?$', recipe, re.M
        )
    assert set(selected) == {"test", "faults", "e2e"}
    for slow, docker in itertools.product([True, False], repeat=2):
        marks = {"slow": slow, "docker": docker}
        chosen = [name for name, marked in selected.items() if eval(marked, {}, marks)]
        assert len(chosen) == 1, (marks, chosen)


def test_only_tests_in_containers_have_the_mark_of_docker() -> None:
    """`make e2e` looks for it in tests/e2e alone."""
    marked = [
        path
        for path in (ROOT / "tests").rglob("*.py")
        if "mark.docker" in path.read_text(encoding="utf-8") and path != Path(__file__)
    ]
    assert marked
    assert all(path.is_relative_to(ROOT / "tests" / "e2e") for path in marked)
