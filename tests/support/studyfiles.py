"""Texts of study files."""

from __future__ import annotations

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
