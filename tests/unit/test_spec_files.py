"""Study files that are refused as a whole, and whatever else may be in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.studyfiles import (
    EXAMPLE,
    fields_of,
    refusal,
    refusals,
)
from trialfleet.errors import StudyFileError
from trialfleet.study.file import MAX_BYTES, load, parse
from trialfleet.study.spec import Spec


def assert_taken_or_explained(text: str) -> None:
    try:
        spec = parse(text, source="x.toml")
    except StudyFileError as error:
        lines = error.lines
    else:
        assert Spec.from_json(spec.to_json()) == spec
        return
    assert 1 <= len(lines) <= 21
    for line in lines:
        assert line.startswith("x.toml: ")
        assert line.isprintable()
        assert len(line) < 500
        assert "Input should be" not in line, "pydantic's words, not ours"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "name: is missing; must be given"),
        ("name = 4", "name: 4; must be 1 to 64 letters"),
        ("name = ''", "name: ''; must be"),
        ("name = '.x'", "name: '.x'; must be"),
        ("name = 'x y'", "name: 'x y'; must be"),
        ("name = '../x'", "name: '../x'; must be"),
        ("name = '<script>alert(1)</script>'", "name: '<script>alert(1)</script>'; must be"),
        ("""name = "x'; DROP TABLE trials; --" """, 'name: "x\'; DROP TABLE trials; --"; must be'),
        ('name = "x\\u0000y"', "name: 'x\\x00y'; must be"),
        ('name = "x\\n"', "name: 'x\\n'; must be"),
        ('name = "\\u202Eelif.x"', "name: '\\u202eelif.x'; must be"),
        ('name = "\\u200Fx"', "name: '\\u200fx'; must be"),
        ("name = 'é'", "name: 'é'; must be"),
        (f"name = '{'x' * 65}'", f"name: '{'x' * 60}'…; must be"),
        (f"name = '{'x' * 600}'", f"name: '{'x' * 60}'…; must be"),
        ("name = 'x.final'", "name: 'x.final'; must not end with .final"),
        ("name = 'x.FINAL'", "name: 'x.FINAL'; must not end with .final"),
        ("name = ['x']", "name: ['x']; must be"),
        ("name = 'x'\nseed = -1", "seed: -1; must be a whole number from 0 to 4294967295"),
        ("name = 'x'\nseed = 4294967296", "seed: 4294967296; must be"),
        ("name = 'x'\nseed = true", "seed: true; must be"),
        ("name = 'x'\ntask = 4", "task: 4; must be a table"),
        ("name = 'x'\n[[agent]]\ngamma = 0.9", "agent: a list; must be a table"),
        ("name = 'x'\nsearch = 2020-01-01", "search: a date or time; must be a table"),
        ("name = 'x'\ntrials = 4", "trials: unknown key here; it belongs under [search]"),
        (
            "name = 'x'\nseeds = 4",
            "seeds: unknown key here; it belongs under [task] or under [final] (did",
        ),
        ('name = "x"\n"a\\nb" = 4', "'a\\nb': unknown key"),
        # Misspelled keys come first: they explain the others.
        ("nmae = 'x'", "nmae: unknown key (did you mean name?)"),
        ("name = 4\n[final]\ntopp = 1", "final.topp: unknown key (did you mean top?)"),
        # TOML itself
        ("name = 'x'\nname = 'y'", "line 2, the last: A key is there twice"),
        ("name = 'x'\n[task]\n[task]\n", "line 3, column 6: Cannot declare [task] twice"),
        ("name = 'x'\n\n[task\n", "line 3, column 6: "),
        ("name = x", "line 1, column 8: Invalid value"),
        ("name = 'x\x00'", "line 1, column 10: "),
        ("a = " + "[" * 5_000, "is nested too deeply"),
        ("seed = " + "9" * 5_000, "holds a number of thousands of digits"),
        ("a" + ".a" * 5_000, "line 1: is longer than 10000 characters"),
        ("x = 2026-13-45", "line 1, column "),
    ],
    ids=lambda each: str(each)[:40],
)
def test_refused_file(text: str, expected: str) -> None:
    assert refusal(text).startswith(expected), refusal(text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    def reason(path: Path) -> str:
        with pytest.raises(StudyFileError) as refused:
            load(path)
        assert str(refused.value).isprintable()
        return str(refused.value)

    path = tmp_path / "x.toml"
    assert reason(path) == f"{path}: no such file"
    assert reason(tmp_path) == f"{tmp_path}: is a directory"
    assert "cannot be read" in reason(tmp_path / "x\0y")
    assert "cannot be read" in reason(tmp_path / ("x" * 300))
    assert "\\n" in reason(tmp_path / "x\ny")
    path.write_bytes(b"name = 'x'\n# \xff\n")
    assert reason(path) == f"{path}: line 2: is not UTF-8; save the file as UTF-8"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    assert "is larger than 100 kB" in reason(path)
    path.write_bytes(b"#\n" * (MAX_BYTES // 2))
    assert "name: is missing" in reason(path)
    assert "cannot be read" in reason(path / "x")


@given(st.data())
def test_whatever_happens_to_a_file_it_is_refused_in_one_line(data: st.DataObject) -> None:
    text = EXAMPLE
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 12)))
        piece = data.draw(
            st.one_of(
                st.sampled_from(MANGLES),
                st.text(max_size=4),
                st.integers().map(str),
                st.floats().map(repr),
            )
        )
        text = text[:start] + piece + text[end:]
    assert_taken_or_explained(text)


MANGLES = [
    *(
        "",
        "\n",
        '"',
        "'",
        '"""',
        "[",
        "]",
        "[[",
        "{",
        "}",
        "=",
        ",",
        ".",
        "#",
        "\0",
        "-",
        "_",
        "\\",
    ),
    *("nan", "inf", "-inf", "true", "1e999", "2026-01-01", "0x", "[task]\n", "[agent.gamma]\n"),
    *("{ low = ", "high = ", "choices = [", "step = ", "log = true", "name = ", "\u202e", "\ud7ff"),
]


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.dates()
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["low", "high", "log", "step", "choices", "name", "x"]), inner
        ),
    ),
)


@given(st.data())
def test_any_value_of_any_field_is_taken_or_explained(data: st.DataObject) -> None:
    tables: dict[str, Any] = {"name": "x"}
    table = data.draw(st.sampled_from(["task", "agent", "search", "final"]))
    field = data.draw(st.sampled_from(fields_of(table)))
    tables[table] = {field: data.draw(VALUES)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trialfleet.study.file.tomllib.loads", lambda text: tables)
        assert_taken_or_explained("")


ZOO = """
name = "zoo"
[task]
env = "CartPole-v1"
n_timesteps = 5e4
train_steps = 5e4
[agent]
policy = "MlpPolicy"
learning_rate = 2
batch_size = { low = 0, high = 64, logg = true }
policy_kwargs = "dict(net_arch=[256, 256])"
[search]
sampler = { name = "tpe", n_startup = 3, multivariate = 4 }
[[constraints]]
measure = "parameter"
[[constraints]]
measure = "score"
[final]
top = 0
"""


def test_all_mistakes_are_told_at_once_a_line_each_and_misspelled_keys_first() -> None:
    lines = refusals(ZOO)
    assert [line.partition(": ")[0] for line in lines] == [
        "task.n_timesteps",
        "agent.policy",
        "agent.policy_kwargs",
        "agent.batch_size.logg",
        "search.sampler.n_startup",
        "task.train_steps",
        "agent.learning_rate",
        "search.sampler.multivariate",
        "constraints[0].measure",
        "constraints[1]",
        "final.top",
    ]


def test_fields_that_do_not_go_together_are_told_at_once() -> None:
    lines = refusals(
        """
        name = "x"
        [agent]
        batch_size = 128
        buffer_size = 64
        learning_starts = 9_000
        [search]
        trials = 3
        [[enqueue]]
        gama = 0.9
        gamma = 0.9
        [final]
        top = 4
        """
    )
    assert [line.partition(": ")[0] for line in lines] == [
        "enqueue[0].gama",
        "agent.batch_size",
        "agent.learning_starts",
        "enqueue[0].gamma",
        "final.top",
    ]


def test_what_says_nothing_of_a_training_of_ones_own_is_told_at_once() -> None:
    lines = refusals(
        """
        name = "x"
        [task]
        objective = "mine:train"
        env = "CartPole-v1"
        keep = "best"
        algorithm = "dqn"
        [parameters]
        rate = { low = 1, high = 0 }
        class = 3
        """
    )
    assert [line.partition(": ")[0] for line in lines] == [
        "task.algorithm",
        "task.env",
        "task.keep",
        "parameters.class",
    ]


def test_a_misspelled_key_is_not_missing_as_well() -> None:
    assert refusals("nmae = 'x'") == ["nmae: unknown key (did you mean name?)"]


def test_a_file_of_nothing_but_mistakes_fills_no_screen() -> None:
    keys = "\n".join(f"key_{number} = 1" for number in range(300))
    lines = refusals(f"name = 'x'\n[task]\n{keys}")
    assert len(lines) == 21
    assert lines[-1] == "and 280 more"


def test_what_ends_a_file_and_what_to_do_about_it_go_together(tmp_path: Path) -> None:
    """Nobody is told to correct a field of a file that is not there."""
    there = tmp_path / "x.toml"
    there.write_text("name = 'x'\n[task]\nseeds = 0\n")
    broken = tmp_path / "z.toml"
    broken.write_text("name = ")
    for path, changes, remedy in (
        (tmp_path / "y.toml", [], "Give the path of a study file"),
        (broken, [], "Correct the TOML of the study file there"),
        (there, [], "Correct the named field of the study file"),
        (there, ["task.sed=3"], "Correct the named fields of the study file"),
        (there, ["task.seeds"], "Correct the named field of --set"),
        (there, ["task.seeds=500"], "Correct the named field of --set"),
    ):
        with pytest.raises(StudyFileError) as refused:
            load(path, changes)
        assert refused.value.remedy.startswith(remedy)
