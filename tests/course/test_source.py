import ast

import pytest

from minillm.course import source

TEXT = '''"""Header."""

import numpy as np
from itertools import pairwise, chain

from minillm.ops._op import (
    check_shape,
    op,
)

__all__ = ["first", "second"]

ONE = 1  # stays


# above
@op
def first(x, *, eps=1e-5):
    """Says what.

    x : (N,)
    """
    # a comment of the solution
    y = np.exp(x)  # (N,)

    return y, (x,)
    # below, still inside


# between
def second(
    dy: dict[str, int],
    cache,
):  # what a signature: with a colon
    # forward: y = np.exp(x)
    return dy * cache[0]


class Thing:
    """Doc."""

    def method(self):
        return list(pairwise([1]))

    def other(self):
        return list(chain([2]))
'''


def test_a_stub_keeps_docstring_comments_and_layout_and_loses_the_body():
    made = source.stub(TEXT, {"first": ["raise NotImplementedError"], "second": ["pass"]})
    assert "np.exp" not in made
    assert "solution" not in made
    assert "below, still inside" not in made
    assert "forward:" not in made
    head = "# above\n@op\ndef first(x, *, eps=1e-5):"
    for kept in (head, "x : (N,)", "# between", "ONE = 1  # s"):
        assert kept in made
    assert "):  # what a signature: with a colon\n    pass\n" in made
    assert made.count("    raise NotImplementedError\n\n\n# between") == 1
    ast.parse(made)


def test_a_stub_of_a_method():
    made = source.stub(TEXT, {"Thing.method": ["raise NotImplementedError"]})
    assert "        raise NotImplementedError\n\n    def other" in made


def test_a_stub_of_a_function_on_one_line_is_refused():
    with pytest.raises(source.SourceError, match="one line"):
        source.stub("def f(x): return x\n", {"f": ["pass"]})


def test_an_unknown_function_is_named():
    with pytest.raises(source.SourceError, match="no function third; there are first, second"):
        source.stub(TEXT, {"third": []})


def test_functions_are_replaced_decorators_included_and_missing_ones_appended():
    new = "@op\ndef first(x):\n    return 2\n"
    made = source.replace_functions(TEXT, {"first": new, "extra": "def extra():\n    pass\n"})
    assert made.count("@op") == 1
    assert "return 2" in made
    assert made.endswith("def extra():\n    pass\n")
    method = "    def third(self):\n        return 3\n"
    made = source.replace_functions(TEXT, {"Thing.third": method, "Thing.method": method})
    assert made.count("def third") == 2
    assert list(source.functions(made)) == ["first", "second", "Thing.third", "Thing.other"]
    with pytest.raises(source.SourceError, match="class Absent"):
        source.replace_functions(TEXT, {"Absent.f": method})


def test_replacing_with_its_own_source_changes_nothing():
    for name in source.functions(TEXT):
        assert source.replace_functions(TEXT, {name: source.source_of(TEXT, name)}) == TEXT


def test_imports_are_renamed_where_they_stand():
    made = source.rewrite_imports(TEXT, {"minillm.ops._op": "_op"})
    assert "from _op import (\n    check_shape,\n    op,\n)" in made


def test_what_is_left_out_takes_its_imports_along():
    made = source.omit(TEXT, ["second", "Thing"])
    assert "pairwise" not in made
    assert "chain" not in made
    assert '__all__ = ["first"]' in made
    assert "import numpy as np" in made
    ast.parse(made)
    with pytest.raises(source.SourceError, match="nothing_such"):
        source.omit(TEXT, ["nothing_such"])


def test_a_default_is_changed_and_nothing_else():
    assert source.set_default(TEXT, "first", "eps", 0.5) == TEXT.replace("eps=1e-5", "eps=0.5")
    with pytest.raises(source.SourceError, match="no parameter x with a default"):
        source.set_default(TEXT, "first", "x", 1)


def test_statements_are_those_that_compute_in_normal_form():
    text = "def f(a):\n    x, y = a\n    z = ( x+\n      y )  # sum\n    for i in range( 3 ):\n"
    text += "        z += i\n    return z\n"
    assert source.statements(text, ["f"]) == {"z = x + y", "for i in range(3):", "z += i"}
