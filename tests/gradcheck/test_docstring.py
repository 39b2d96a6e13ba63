"""Shapes read from a docstring agree with one another and with what is known already."""

import pytest

from minillm import ops
from minillm.gradcheck.arguments import parse_argument
from minillm.gradcheck.docstring import documented, sized


def read(text, known=()):
    def f(x, y, w, ids, mask, params, eps):
        pass

    f.__doc__ = text
    return sized(documented(f), dict(known))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x : (..., C)\ny, w : (C,)", {"x": "2,3,5", "y": "5", "w": "5"}),
        ("x : (N, C)\nw : (C, M)", {"x": "5,4", "w": "4,7"}),
        ("x : (N, 3)\ny : ()", {"x": "5,3", "y": "()"}),
        ("x : array of shape (N, D)", {"x": "5,4"}),
        ("x : ndarray, shape (N)", {"x": "5"}),
        ("Inputs:\n- x: Input data, of shape (N, D)\n- w: Weights, of shape (D,)", None),
        ("ids : (B, T) integers in [0, V)\nw : (V, C)", {"ids": "int:5,4:0..6", "w": "7,6"}),
        ("ids : (B,) integers in [0, 3)", {"ids": "int:5:0..2"}),
        ("mask : bool (T, T), True = may attend", {"mask": "bool:5,5"}),
        (
            'params : {"w": (C, 4K), "b": (4K,)}, in this order',
            {"params.w": "5,16", "params.b": "16"},
        ),
        ("x : (C,)\nReturns\n-------\ny : (C,)", {"x": "5"}),
        ("x : (C,)\nx : (A, B)", {"x": "5"}),
        ("eps : float, by default 1 / sqrt(D)", {}),
        ("x : int", {}),
        ("x : (int)", {}),
        ("ids : (B, T) integers", {}),
        ("ids : labels, array of shape (N,)", {}),
        ("x : (N, C * D)", {}),
        ("x : (..., C, ...)", {}),
        ("w : see rnn_cell\nunknown : (C,)\nx no colon (C,)", {}),
        ('params : {"w": {"x": (C,), "y": (C,)}}', {}),
        ("", {}),
        (None, {}),
    ],
)
def test_what_a_docstring_says(text, expected):
    assert read(text) == ({"x": "5,4", "w": "4"} if expected is None else expected)


def test_what_is_known_decides_the_letters():
    text = 'x : (..., C)\ny : (C, M)\nw : (M,)\nparams : {"w": (C, 4K), "b": (K,)}'
    assert read(text, known={"x": (9, 5)}) == {
        "x": "9,5",
        "y": "5,4",  # 4 is not C: letters differ
        "w": "4",
        "params.w": "5,28",
        "params.b": "7",
    }
    assert read(text, known={"params.w": (3, 8)})["params.b"] == "2"
    assert read(text, known={"x": (6,)})["y"].startswith("6,")


@pytest.mark.parametrize(
    "known", [{"y": (3,)}, {"y": (1, 2, 3)}, {"params.w": (4, 7)}, {"z": (2,)}]
)
def test_a_known_shape_that_does_not_fit_is_let_be(known):
    text = 'y : (C, M)\nparams : {"w": (..., A, 4K)}'
    assert set(read(text, known=known)) == {"y", "params.w"}


def test_every_letter_of_many_has_its_own_size():
    letters = [f"a{i}" for i in range(30)]
    text = read(f"x : ({', '.join(letters)})")["x"]
    assert len(set(text.split(","))) == 30


def test_the_shapes_of_our_ops_fit():
    texts = sized(documented(ops.layer_norm), {"x": (4, 7)})
    assert texts == {"x": "4,7", "gain": "7", "bias": "7"}
    texts = sized(documented(ops.lstm_cell), {})
    assert {path: parse_argument(f"{path}={text}").shape for path, text in texts.items()} == {
        "x": (5, 4),
        "state.h": (5, 7),
        "state.c": (5, 7),
        "params.weight_x": (4, 28),
        "params.weight_h": (7, 28),
        "params.bias": (28,),
    }
