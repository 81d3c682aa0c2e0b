"""The compiled products against NumPy's, in shapes that take every way through the tiles."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.trainers.dqn.compiled import products
from worker.trainers.dqn.compiled.products import padded

F32 = NDArray[np.float32]

SHAPES = [
    (1, 1, 1),
    (2, 3, 2),
    (3, 4, 5),
    (6, 16, 64),
    (7, 15, 65),
    (9, 17, 31),
    (13, 33, 63),
    (84, 120, 128),
    (120, 4, 128),
    (2, 84, 100),
    (256, 256, 64),
]
# 1 + 2^-12 squared is 1 + 2^-11 + 2^-24: the last part is what a product that is rounded loses.
NEAR_ONE, SQUARE_ROUNDED = 1 + 2**-12, 1 + 2**-11


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def numbers(rng: np.random.Generator, *shape: int) -> F32:
    """Whole ones, so that sums are the same in any order."""
    return rng.integers(-9, 10, shape).astype(np.float32)


def framed(rows: int, columns: int) -> tuple[F32, F32]:
    """A matrix to write to, and the larger one that it lies in, all ones."""
    frame = np.ones((rows + 2, columns + 2), np.float32)
    return frame[1:-1, 1:-1], frame


def untouched(frame: F32) -> bool:
    return bool((np.concatenate([frame[0], frame[-1], frame[:, 0], frame[:, -1]]) == 1).all())


@pytest.mark.parametrize(("m", "k", "n"), SHAPES)
def test_a_product(rng: np.random.Generator, m: int, k: int, n: int) -> None:
    a, b = numbers(rng, m, k), numbers(rng, k, n)
    out, frame = framed(m, n)
    products.multiply(a, b, out)
    assert np.array_equal(out, a @ b)
    out[:] = 0
    products.multiply(np.ascontiguousarray(a.T).T, b, out)
    assert np.array_equal(out, a @ b), "of a transposed matrix"
    active = numbers(rng, m, n)
    products.multiply_where(a, b, active, out)
    assert np.array_equal(out, np.where(active > 0, a @ b, 0))
    out[:] = 0
    products.dots(a, np.ascontiguousarray(b.T), out)
    assert np.array_equal(out, a @ b)
    assert untouched(frame)


@pytest.mark.parametrize(("m", "k", "n"), SHAPES)
@pytest.mark.parametrize("hidden", [False, True])
def test_a_layer(rng: np.random.Generator, m: int, k: int, n: int, hidden: bool) -> None:
    weight, below, bias = numbers(rng, m, k), numbers(rng, k, n), numbers(rng, m)
    wanted = weight @ below + bias[:, None]
    if hidden:
        wanted = np.maximum(wanted, 0)
    out, frame = framed(m, n)
    products.layer(weight, below, bias, out, hidden)
    assert np.array_equal(out, wanted)
    assert untouched(frame)
    room = np.ones(m + 1, np.float32)
    after = numbers(rng, 3)  # another layer's
    parameters = np.concatenate([weight.ravel(), bias, after])
    products.neurons(parameters, np.ascontiguousarray(below[:, 0]), room[:m], hidden)
    assert np.array_equal(room, [*wanted[:, 0], 1])


@pytest.mark.parametrize(("m", "k", "n"), SHAPES)
def test_a_transposed_matrix(rng: np.random.Generator, m: int, k: int, n: int) -> None:
    whole = numbers(rng, padded(m), padded(n))
    out = np.zeros((padded(n), padded(m) + 3), np.float32)
    products.transpose(whole[:m, :n], out)
    assert np.array_equal(out[:n, :m], whole[:m, :n].T)
    assert not out[:, padded(m) :].any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_stays_none(bad: float) -> None:
    """Unless a ReLU cuts it: a training that diverges is found out by it."""
    weight, below = np.full((20, 1), bad, np.float32), np.ones((1, 20), np.float32)
    bias, out = np.zeros(20, np.float32), np.zeros((20, 20), np.float32)
    wanted = np.maximum(np.float32(bad), 0)
    products.layer(weight, below, bias, out, True)
    assert np.array_equal(out, np.full((20, 20), wanted), equal_nan=True)
    products.neurons(np.concatenate([weight.ravel(), bias]), below[:, 0], out[0], True)
    assert np.array_equal(out[0], np.full(20, wanted), equal_nan=True)


@pytest.mark.parametrize(("m", "n"), [(6, 64), (2, 16), (1, 3)])
def test_a_product_is_added_before_it_is_rounded(m: int, n: int) -> None:
    """By every processor that can, so that all of those compute the same."""
    a, b = np.full((m, 2), NEAR_ONE, np.float32), np.full((2, n), NEAR_ONE, np.float32)
    a[:, 0], b[0] = -1, SQUARE_ROUNDED
    out = np.empty((m, n), np.float32)
    products.multiply(a, b, out)
    assert (out == 2.0**-24).all()
    first, second = (np.zeros((rows, 32), np.float32) for rows in (m, n))
    first[:, 0], second[:, 0] = -1, SQUARE_ROUNDED
    first[:, 16], second[:, 16] = NEAR_ONE, NEAR_ONE
    products.dots(first, second, out)
    assert (out == 2.0**-24).all()


def test_bits_do_not_depend_on_the_place(rng: np.random.Generator) -> None:
    """A column alone, or a row alone, is what it is among others."""
    for m, k, n in SHAPES:
        weight, below, bias = (
            rng.normal(size=shape).astype(np.float32) for shape in ((m, k), (k, n), (m,))
        )
        together = np.empty((m, n), np.float32)
        alone = np.empty_like(together)
        products.layer(weight, below, bias, together, False)
        for column in range(n):
            one = np.s_[:, column : column + 1]
            products.layer(weight, below[one], bias, alone[one], False)
        assert together.tobytes() == alone.tobytes()
        turned = np.ascontiguousarray(below.T)
        products.dots(weight, turned, together)
        for row in range(m):
            products.dots(weight[row : row + 1], turned, alone[row : row + 1])
        assert together.tobytes() == alone.tobytes()
