"""A small network for the handwritten digits of scikit-learn; studies/digits.toml searches it.

Needs scikit-learn: `pip install "trialfleet[examples]"`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from trialfleet.training import Result, Run

Data = tuple[Tensor, Tensor, Tensor, Tensor]  # images [N, 64] and digits [N]: to learn, to test


class Classifier:
    """One network with its optimizer."""

    def __init__(self, parameters: Mapping[str, Any], seed: int) -> None:
        torch.manual_seed(seed)  # the layers' first weights come from PyTorch's global generator
        widths = [64] + [parameters["width"]] * parameters["layers"]
        hidden = [
            layer
            for before, after in pairwise(widths)
            for layer in (nn.Linear(before, after), nn.ReLU(), nn.Dropout(parameters["dropout"]))
        ]
        self.network = nn.Sequential(*hidden, nn.Linear(widths[-1], 10))
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=parameters["learning_rate"],
            weight_decay=parameters["weight_decay"],
        )
        self.batch_size = parameters["batch_size"]

    def learn(self, images: Tensor, digits: Tensor, seed: int) -> float:
        """Train for an epoch; the mean loss. Whatever is random in it comes from the seed."""
        torch.manual_seed(seed)
        self.network.train()
        batches = torch.randperm(len(images)).split(self.batch_size)
        total = 0.0
        for rows in batches:
            loss = nn.functional.cross_entropy(self.network(images[rows]), digits[rows])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total / len(batches)

    def accuracy(self, images: Tensor, digits: Tensor) -> float:
        """Per cent of the images that it reads right."""
        self.network.eval()
        with torch.no_grad():
            right = self.network(images).argmax(1) == digits
        return 100 * right.double().mean().item()


def train(run: Run) -> Result:
    """A network for each seed; a step is an epoch. The same images are for learning everywhere."""
    learn_images, learn_digits, test_images, test_digits = _data()
    classifiers = [Classifier(run.parameters, seed) for seed in run.seeds]
    if run.checkpoint is not None:
        _load(classifiers, run.checkpoint)
    scores = [0.0] * len(classifiers)
    for step in run.steps:
        losses = [
            each.learn(learn_images, learn_digits, run.segment_seed(seed, step))
            for each, seed in zip(classifiers, run.seeds, strict=True)
        ]
        scores = [each.accuracy(test_images, test_digits) for each in classifiers]
        run.report(step, scores, checkpoint=lambda: _dump(classifiers), metrics={"loss": losses})
    models = [_bytes(each.network.state_dict()) for each in classifiers] if run.final else []
    return Result(scores=scores, models=models, suffix=".pt")


def _data() -> Data:
    images, digits = load_digits(return_X_y=True)
    parts = train_test_split(images / 16, digits, test_size=0.3, random_state=0, stratify=digits)
    learn, test, learn_digits, test_digits = (torch.from_numpy(part) for part in parts)
    return learn.float(), learn_digits, test.float(), test_digits


def _dump(classifiers: list[Classifier]) -> bytes:
    states = [(each.network.state_dict(), each.optimizer.state_dict()) for each in classifiers]
    return _bytes(states)


def _load(classifiers: list[Classifier], checkpoint: bytes) -> None:
    states = torch.load(io.BytesIO(checkpoint), weights_only=True)
    for each, (network, optimizer) in zip(classifiers, states, strict=True):
        each.network.load_state_dict(network)
        each.optimizer.load_state_dict(optimizer)


def _bytes(state: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()
