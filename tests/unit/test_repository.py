"""Who may name Optuna's tables: the trial repository, and the migrations that guard them."""

from __future__ import annotations

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
