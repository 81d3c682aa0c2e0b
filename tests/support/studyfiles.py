"""Texts of study files, and what is said of those that are refused."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from trialfleet.errors import StudyFileError
from trialfleet.study.file import parse
from trialfleet.study.spec import Spec

WHOLE = "must be a whole number from"

EXAMPLE = """\
name = "example"
seed = 3

[task]
train_steps = 20_000
eval_every = 2_000

[agent]
learning_rate = { low = 1e-4, high = 1e-2, log = true }
gamma = { low = 0.9, high = 0.99, step = 0.03 }
batch_size = { low = 32, high = 128, step = 32 }
net_arch = { choices = [[32], [64, 64]] }
double_q = { choices = [true, false] }
loss = "mse"

[search]
trials = 20
sampler = { name = "tpe", multivariate = false }
pruner = { name = "median", n_warmup_steps = 4_000 }

[final]
top = 2
"""


def in_table(table: str, line: str) -> str:
    return f'name = "x"\n[{table}]\n{line}\n'


def refusal(text: str) -> str:
    """What is said first of the study file of this text, after the file's name."""
    return refusals(text)[0]


def refusals(text: str) -> list[str]:
    """All that is said of it, each after the file's name."""
    with pytest.raises(StudyFileError) as refused:
        parse(text, source="studies/x.toml")
    for line in refused.value.lines:
        assert line.startswith("studies/x.toml: ")
        assert line.isprintable(), "one line, with nothing that moves a cursor"
        assert len(line) < 500
    return [line.removeprefix("studies/x.toml: ") for line in refused.value.lines]


def assert_refused(table: str, line: str, field: str, words: list[str]) -> None:
    """The study file with this line in this table is refused for the field, in these words."""
    message = refusal(in_table(table, line))
    assert message.startswith(f"{field}: "), message
    for each in words:
        assert each in message


def fields_of(table: str) -> list[str]:
    """The keys that the table takes."""
    return list(dict(getattr(Spec(name="x"), table)))


def never_refused(table: str, refused: Iterable[str]) -> list[str]:
    """Fields of the table that are not among those, nor the beginning of one."""
    names = [f"{table}.{name}" for name in fields_of(table)]
    known = list(refused)
    return [name for name in names if not any(each.startswith(name) for each in known)]
