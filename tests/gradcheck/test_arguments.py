"""The language of --arg and --option, and how values are put where a signature has them."""

from pathlib import Path

import numpy as np
import pytest

from minillm.errors import UserError
from minillm.gradcheck.arguments import bind, missing, parse_argument, parse_option
from minillm.gradcheck.student import Pair


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def drawn(text, seed=0, dtype=np.float64):
    return parse_argument(text).draw(seed, dtype)


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        ("4,7", (4, 7)),
        ("(4,7)", (4, 7)),
        ("4, 7", (4, 7)),
        ("7", (7,)),
        ("7,", (7,)),
        ("()", ()),
        ("0,3", (0, 3)),
        ("float:2,3", (2, 3)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_of_a_shape(spec, shape, dtype):
    argument = parse_argument(f"x={spec}")
    x = argument.draw(0, dtype)
    assert (type(x), x.shape, x.dtype, argument.shape) == (np.ndarray, shape, dtype, shape)
    assert str(argument) == f"x={spec}"


def test_floats_are_normal_or_in_a_range():
    x = drawn("x=50,80")
    assert abs(x.mean()) < 0.1
    assert abs(x.std() - 1) < 0.1
    x = drawn("x=50,80:-0.5..3")
    assert (x.min() >= -0.5, x.max() <= 3) == (True, True)
    assert (x.min() < -0.4, x.max() > 2.9) == (True, True)
    assert np.all(drawn("x=3:1e-2..0.01") == 0.01)


def test_integers_have_both_ends():
    ids = drawn("ids=int:40,5:-1..2")
    assert (ids.dtype, ids.shape, set(ids.ravel().tolist())) == (np.int64, (40, 5), {-1, 0, 1, 2})


def test_a_mask_has_a_true_in_each_row():
    mask = drawn("mask=bool:200,3")
    assert (mask.dtype, mask.shape) == (bool, (200, 3))
    assert mask.any(-1).all()
    assert 0.4 < mask.mean() < 0.8
    assert drawn("mask=bool:()").shape == ()
    assert drawn("mask=bool:2,0").shape == (2, 0)


def test_values_files_and_nothing():
    np.save("x.npy", np.arange(6, dtype=np.float32).reshape(2, 3))
    np.save("ids.npy", np.arange(3, dtype=np.int32))
    assert drawn("x=@x.npy").dtype == np.float64
    np.testing.assert_array_equal(drawn("x=@x.npy"), [[0, 1, 2], [3, 4, 5]])
    assert drawn("ids=@ids.npy").dtype == np.int32
    assert parse_argument("x=@x.npy").shape == (2, 3)
    np.testing.assert_array_equal(drawn("y=[0, 2, 1]"), [0, 2, 1])
    assert drawn("y=[0,2,1]").dtype.kind == "i"
    assert drawn("y=[[0.5,2]]", dtype=np.float32).dtype == np.float32
    assert drawn("m=[True,False]").dtype == bool
    assert drawn("bias=None") is None
    assert drawn("rng=rng").random() == drawn("rng=rng").random()


def test_what_is_drawn_depends_on_seed_and_text_alone():
    np.testing.assert_array_equal(drawn("x=4,7"), drawn("x=4,7"))
    np.testing.assert_array_equal(drawn("x=4,7"), drawn("softmax:x=4,7"))
    assert not np.allclose(drawn("x=4,7"), drawn("x=4,7", seed=1))
    assert not np.allclose(drawn("x=4,7"), drawn("y=4,7"))


def test_a_place_in_a_nest_and_a_pair():
    argument = parse_argument("lstm:params.0.w=3")
    assert (argument.pair, argument.path, argument.name) == ("lstm", "params.0.w", "params")
    assert str(argument) == "params.0.w=3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "--arg x: expected NAME=SHAPE, as in x=4,7"),
        ("=4", "--arg =4: expected NAME=SHAPE"),
        ("x y=4", "expected NAME=SHAPE"),
        ("x..y=4", "expected NAME=SHAPE"),
        ("x=", "--arg x=: expected a shape, as in 4,7 or int:8,5:0..9, got nothing"),
        ("x=4x7", "expected a shape, as in 4,7 or int:8,5:0..9, got 4x7"),
        ("x=-3", "expected a shape"),
        ("x=4,,7", "expected a shape, as in 4,7 or () for a scalar, got 4,,7"),
        ("x=,", "expected a shape"),
        ("x=int:", "expected a shape"),
        ("x=int:4", "integers need a range, as in int:4:0..9"),
        ("x=int:4:0..1.5", "a range is two whole numbers, as in 0..9, got '1.5'"),
        ("x=int:4:0..99999999999999999999", "a range is two whole numbers"),
        ("x=4:a..b", "a range is two numbers, as in 0..9, got 'a'"),
        ("x=4:0..inf", "a range is two numbers"),
        ("x=4:3..2", "the range 3..2 is empty"),
        ("x=4:3", "expected a shape"),
        ("x=bool:4:0..1", "bool takes no range"),
        ("x=complex:4", "expected a shape"),
        ("x=10000,10000,10", "1000000000 elements are more than 100000000"),
        ("x=[1,2", "expected values, as in [0,2,1]"),
        ("x=[[1],[2,3]]", "expected values"),
        ("x=[a]", "expected values"),
        ("x=['a']", "expected numbers or bools, got <U1"),
        ("x=[1j]", "expected numbers or bools, got complex128"),
        ("x=@none.npy", "no file none.npy"),
        ("x=@.", "no file ."),
        ("x=@text.npy", "text.npy is not a .npy file"),
        ("x=@empty.npy", "empty.npy is not a .npy file"),
        ("x=@two.npz", "two.npz holds several arrays; expected a .npy file"),
        ("x=@object.npy", "object.npy is not a .npy file"),
    ],
)
def test_a_text_that_is_no_argument(text, message):
    Path("text.npy").write_text("not an array")
    Path("empty.npy").write_text("")
    np.savez("two.npz", a=np.ones(2), b=np.ones(3))
    np.save("object.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(UserError) as caught:
        parse_argument(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("-1", -1),
        ("-inf", -np.inf),
        ("True", True),
        ("None", None),
        ("tanh", "tanh"),
        ("left-right", "left-right"),
        ("'a b'", "a b"),
        ("'true'", "true"),
        ("[1, 2]", [1, 2]),
        ("(1,)", (1,)),
        ("{'stride': 2}", {"stride": 2}),
    ],
)
def test_an_option(text, value):
    name, found = parse_option(f"it = {text}")
    assert (name, found, type(found)) == ("it", value, type(value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eps", "expected NAME=VALUE, as in eps=1e-5"),
        ("=3", "expected NAME=VALUE"),
        ("a.b=3", "expected NAME=VALUE"),
        ("causal=true", "--option causal=true: write causal=True, as in Python"),
        ("mask=null", "write mask=None"),
        ("eps=1e-", "expected a number, True, False, None, a string, list or dict"),
        ("eps=", "expected a number"),
        ("eps=1+f(x)", "expected a number"),
        ("eps=__import__('os')", "expected a number"),
    ],
)
def test_a_text_that_is_no_option(text, message):
    with pytest.raises(UserError) as caught:
        parse_option(text)
    assert message in str(caught.value)


def bound(forward, *texts, **options):
    arguments = [parse_argument(text) for text in texts]
    args, kwargs = bind(Pair("f", forward, None), arguments, options, 0, np.float64)
    return [_looks(arg) for arg in args], {name: _looks(value) for name, value in kwargs.items()}


def _looks(value):
    if isinstance(value, dict):
        return {key: _looks(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_looks(child) for child in value]
    if isinstance(value, np.random.Generator):
        return "generator"
    return value.shape if hasattr(value, "shape") else value


def test_arrays_go_where_the_signature_has_them():
    def f(x, weight, bias=None, axis=-1, *, ids, eps=1e-5):
        pass

    assert bound(f, "weight=5,3", "ids=int:4:0..2", "x=4,5", eps=0.1) == (
        [(4, 5), (5, 3), None],
        {"ids": (4,), "eps": 0.1},
    )
    assert bound(f, "x=4", "weight=5", "ids=[1]", axis=0) == (
        [(4,), (5,), None],
        {"ids": (1,), "axis": 0},
    )
    assert bound(f, "x=4", "weight=5", "ids=[1]", bias=None)[0] == [(4,), (5,)]


def test_what_stands_between_two_arrays_is_passed_by_position():
    def f(p, x, scale=2.0, gain=None, eps=1e-5):
        pass

    assert bound(f, "x=3", "gain=4", p=0.5) == ([0.5, (3,), 2.0, (4,)], {})

    def g(x, eps=1e-5, /):
        pass

    assert bound(g, "x=3", eps=1) == ([(3,), 1], {})


def test_a_generator_is_passed_by_keyword():
    def f(x, p, rng):
        pass

    assert bound(f, "x=3", "rng=rng", p=0.5) == ([(3,)], {"rng": "generator", "p": 0.5})


def test_nests():
    def f(params, x):
        pass

    texts = ["x=2", "params.b=3", "params.w=2,3", "params.layers.1=4", "params.layers.0=5"]
    nest = {"b": (3,), "w": (2, 3), "layers": [(5,), (4,)]}
    assert bound(f, *texts) == ([nest, (2,)], {})
    for texts in (["x=2", "x.a=3"], ["x.a.b=2", "x.a=3"]):
        with pytest.raises(UserError, match=r"--arg x.a: x is an array|--arg x.a: given twice"):
            bound(f, *texts)


def test_what_is_missing():
    def f(x, gain, bias=None, *rest, ids, eps=1e-5, **more):
        pass

    assert missing(Pair("f", f, None), {"x", "eps"}) == ["gain", "ids"]
