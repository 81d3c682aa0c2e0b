"""`--set FIELD=VALUE`: changes to a study file on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import command, told
from tests.support.studyfiles import EXAMPLE
from trialfleet.errors import StudyFileError
from trialfleet.study.file import parse
from trialfleet.study.spec import Spec


def changed(*changes: str) -> Spec:
    return parse(EXAMPLE, source="x.toml", changes=changes)


def test_a_change_is_as_if_the_file_said_so() -> None:
    spec = changed(
        "search.trials=200",
        "search.sampler = random",
        'name="other"',
        "task.env=MountainCar-v0",
        "agent.gamma.high=0.96",
        "agent.batch_size={choices=[32, 64]}",
        "final.top=5",
        "final.top=4",
    )
    text = EXAMPLE
    for old, new in (
        ("trials = 20", "trials = 200"),
        ('{ name = "tpe", multivariate = false }', '"random"'),
        ('"example"', '"other"'),
        ("[task]", '[task]\nenv = "MountainCar-v0"'),
        ("high = 0.99,", "high = 0.96,"),
        ("{ low = 32, high = 128, step = 32 }", "{ choices = [32, 64] }"),
        ("top = 2", "top = 4"),
    ):
        assert old in text
        text = text.replace(old, new)
    assert spec == parse(text, source="x.toml")
    assert spec.digest == parse(text, source="x.toml").digest


def test_a_table_that_the_file_lacks_is_made() -> None:
    spec = parse('name = "x"', source="x.toml", changes=["search.audit=0.5"])
    assert spec.search.audit == 0.5


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("search.trials=0", "x.toml with --set: search.trials: 0; must be a whole number from 1"),
        ("search.trails=9", "x.toml with --set: search.trails: unknown key (did you mean trials?)"),
        ("agent.gamma.low=2", "x.toml with --set: agent.gamma.low: 2; must be a number from"),
        # The field that breaks the rule is another one, and stands in the file.
        ("search.trials=1", "x.toml: final.top: 2 is more than search.trials (1)"),
        ("seed=2026-01-01", "x.toml with --set: seed: a date or time; must be a whole number"),
        ("agent.loss.name=mse", "x.toml with --set: agent.loss: 'mse'; must be a table to have"),
        ("search.trials", "--set: 'search.trials'; must be FIELD=VALUE, such as search.trials=200"),
        ("=5", "--set: '=5'; must be FIELD=VALUE"),
        ("search..trials=5", "--set: 'search..trials=5'; must be FIELD=VALUE"),
        ("name=two words", "--set: name: 'two words'; must be a TOML value, text with spaces in"),
        ("name=", "--set: name: ''; must be a TOML value"),
        ('name="x"\nseed=4', "--set: name: "),
        ("seed=" + "9" * 5_000, "x.toml with --set: seed: "),
        ("seed=" + "[" * 9_000, "--set: seed: "),
    ],
)
def test_a_mistake_is_one_line_that_names_field_and_remedy(change: str, expected: str) -> None:
    with pytest.raises(StudyFileError) as refused:
        changed(change)
    message = str(refused.value)
    assert message.startswith(expected)
    assert message.isprintable()
    assert len(message) < 500


@pytest.mark.parametrize("name", ["check", "run", "coordinate"])
def test_the_commands_that_read_a_file_take_it(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.toml"
    file.write_text(EXAMPLE)
    assert command(name, str(file), "--set", "seed=5", "--set", "search.trials=-1") == 2
    assert f"{file} with --set: search.trials: -1; must be" in told(capsys)
