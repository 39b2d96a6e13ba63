"""Somebody's file is imported without harm, its pairs are found, its errors are placed."""

import os
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest

from minillm.errors import UserError
from minillm.gradcheck.student import StudentError, choose, find_pairs, guarded, opened

PAIR = """
def {0}(x):
    return 2 * x, None
def {0}_backward(dy, cache):
    return 2 * dy
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(text, name="layers.py"):
    Path(name).write_text(textwrap.dedent(text))
    return name


def found(text):
    with opened(write(text)) as module:
        return find_pairs(module, "layers.py")


def refused(call, *args):
    with pytest.raises(UserError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def import_refused(text, name="layers.py"):
    def call():
        with opened(write(text, name)):
            raise AssertionError("it was imported")

    return refused(call)


def test_pairs_in_the_order_of_the_file():
    pairs = found(PAIR.format("second") + PAIR.format("first"))
    assert list(pairs) == ["second", "first"]
    assert not pairs["first"].vjp
    assert pairs["first"].forward(3) == (6, None)
    assert pairs["first"].backward(5, None) == 10


def test_every_way_to_name_a_pair():
    pairs = found("""
        def a_forward(x): return x, None
        def a_backward(dy, cache): return dy
        def b(x): return x
        def b_vjp(dy, x): return dy
        def forward(x): return x, None
        def backward(dy, cache): return dy
        """)
    assert {
        name: (p.forward.__name__, p.backward.__name__, p.vjp) for name, p in pairs.items()
    } == {
        "a": ("a_forward", "a_backward", False),
        "b": ("b", "b_vjp", True),
        "forward": ("forward", "backward", False),
    }


def test_forward_with_a_cache_is_preferred_to_the_bare_one():
    pairs = found("""
        def a(x): return x
        def a_forward(x): return x, None
        def a_backward(dy, cache): return dy
        def a_vjp(dy, x): return dy
        """)
    assert {name: (p.forward.__name__, p.vjp) for name, p in pairs.items()} == {
        "a": ("a_forward", False),
        "a_vjp": ("a", True),
    }


def test_an_op_is_one_pair_whatever_its_backward_is_called():
    pairs = found("""
        from minillm import op
        @op
        def student_twice(x):
            return 2 * x, None
        @student_twice.defbackward
        def of_twice(dy, saved):
            return 2 * dy
        """)
    assert list(pairs) == ["student_twice"]
    y, cache = pairs["student_twice"].forward(np.ones(3))
    np.testing.assert_array_equal(pairs["student_twice"].backward(y, cache), 4 * np.ones(3))


def test_imported_pairs_are_left_out_unless_named():
    write(PAIR.format("borrowed"), "helper.py")
    text = "from helper import *\n" + PAIR.format("own")
    assert list(found(text)) == ["own"]
    with opened(write(text)) as module:
        assert choose(module, "layers.py", "borrowed").forward(1) == (2, None)


def test_a_pair_is_chosen_by_any_of_its_names():
    with opened(write(PAIR.format("f") + PAIR.format("g"))) as module:
        for name in ("g", "g_backward", "g_forward"):
            assert choose(module, "layers.py", name).name == "g"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "no pair f and f_backward found; its functions: none"),
        ("def softmax(x): return x", "no pair f and f_backward found; its functions: softmax"),
        (
            "class Linear:\n    def forward(self): pass\n    def backward(self): pass",
            "its classes Linear can be checked from Python, with check_layer",
        ),
        (
            "def layer_nrom_backward(dy, c): pass\ndef layer_norm(x): pass",
            "layer_nrom_backward has no layer_nrom or layer_nrom_forward beside it; did you mean "
            "layer_norm?",
        ),
        ("def a_forward(x): pass", "a_forward has no a_backward beside it; there are: none"),
        ("def a_vjp(x): pass", "a_vjp has no a or a_forward beside it"),
        (PAIR.format("f") + "def g_backward(dy, c): pass", "g_backward has no g or g_forward"),
    ],
)
def test_no_pair_or_half_of_one(text, message):
    assert message in refused(found, text)


def test_a_private_half_is_a_helper():
    assert list(found(PAIR.format("f") + "def _g_backward(dy): pass")) == ["f"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("softmx", "no pair 'softmx': did you mean softmax?"),
        ("zzz", "no pair 'zzz': there are: softmax"),
        ("alone", "alone has no alone_backward beside it"),
        ("half", "half_backward has no half or half_forward beside it"),
    ],
)
def test_a_name_without_a_pair(name, message):
    text = PAIR.format("softmax") + "def alone(x): pass\ndef half_backward(dy, c): pass"
    with opened(write(text)) as module:
        assert message in refused(choose, module, "layers.py", name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(x:\n  pass", "layers.py:1: SyntaxError: '(' was never closed"),
        ("x = 1\n  y = 2", "layers.py:2: IndentationError: unexpected indent"),
        ("x = 1\nx = 1 / 0", "layers.py:2: ZeroDivisionError: division by zero"),
        ("import nothing_of_this_name", "layers.py:1: ModuleNotFoundError: No module named"),
        ("import sys\nsys.exit(3)", "layers.py:2: it calls sys.exit(3)"),
        ("raise SystemExit", "layers.py:1: it calls sys.exit()"),
        ("raise KeyError", "layers.py:1: KeyError"),
        ("raise ValueError('two\\nlines')", "layers.py:1: ValueError: two lines"),
        ("class E(BaseException): pass\nraise E('mine')", "layers.py:2: E: mine"),
        ("# coding: nonsense", "layers.py: SyntaxError: "),
        ("x = '\0'", "null bytes"),
        ("def f(): return f()\nf()", "layers.py:1: RecursionError: maximum recursion"),
    ],
)
def test_a_file_that_cannot_be_imported(text, message):
    assert message in import_refused(text)


def test_an_error_in_a_helper_has_the_helpers_line():
    write("x = 1\nx.y", "helper.py")
    assert import_refused("import helper") == (
        "helper.py:2: AttributeError: 'int' object has no attribute 'y'"
    )
    write("x = (", "helper.py")
    assert import_refused("import helper") == "helper.py:1: SyntaxError: '(' was never closed"


def test_an_interrupt_is_no_error_of_the_file():
    with pytest.raises(KeyboardInterrupt), opened(write("raise KeyboardInterrupt")):
        pass


def test_a_name_that_is_no_python_file():
    write(PAIR.format("f"))
    Path("folder").mkdir()
    Path("notes.txt").write_text("")

    def call(name):
        with opened(name):
            pass

    assert refused(call, "layer.py") == "layer.py: no such file; did you mean layers.py?"
    assert refused(call, "zzzzzzzzz") == "zzzzzzzzz: no such file"
    assert refused(call, "nowhere/a.py") == "nowhere/a.py: no such file"
    assert refused(call, "folder") == "folder: a folder; expected a Python file"
    assert "expected a Python file, whose name ends in .py" in refused(call, "notes.txt")


def test_helpers_are_found_and_forgotten():
    for number in (1, 2):
        Path(f"s{number}").mkdir()
        write(f"number = {number}", f"s{number}/helper.py")
        text = "import helper\nfrom .helper import number\ndef late():\n    import helper as h\n"
        write(text + "    return h.number", f"s{number}/layers.py")
        with opened(f"s{number}/layers.py") as module:
            assert module.helper.number == module.number == module.late() == number
        assert "helper" not in sys.modules
    assert not [name for name in sys.modules if name.startswith("_student")]


def test_what_is_installed_beside_the_file_stays():
    Path("site-packages").mkdir()
    write("x = 1", "site-packages/installed_here.py")
    text = "import sys; sys.path.append('site-packages'); import installed_here"
    with opened(write(text)) as module:
        kept = module.installed_here
    assert sys.modules.pop("installed_here") is kept


def test_a_file_may_have_the_name_of_a_module():
    import json

    with opened(write("import json\nname = __name__", "json.py")) as module:
        assert module.name not in ("json", "__main__")
        assert sys.modules["json"] is json
        assert sys.modules[module.name] is module


def test_a_name_that_is_no_identifier():
    text = "import dataclasses\n@dataclasses.dataclass\nclass A: x: int"
    with opened(write(text, "a-1.b.py")) as module:
        assert module.A(3).x == 3


def test_what_the_file_changes_is_put_back(monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    before = np.geterr(), list(sys.path), sys.dont_write_bytecode
    write("x = 1", "helper.py")
    text = """
        import sys, warnings, numpy, helper
        numpy.seterr(all="raise")
        warnings.simplefilter("ignore")
        sys.path = []
        """
    with opened(write(text)):
        assert np.geterr() == before[0]
        with pytest.raises(UserWarning, match="still an error here"):
            warnings.warn("still an error here", stacklevel=1)
    assert (np.geterr(), list(sys.path), sys.dont_write_bytecode) == before
    assert sorted(os.listdir()) == ["helper.py", "layers.py"], "no __pycache__ is left"


def test_a_file_changed_within_a_second_is_read_anew(monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for number in "123":
        write(f"x = {number}", "helper.py")
        with opened(write(f"import helper\ny = {number}")) as module:
            assert (module.helper.x, module.y) == (int(number), int(number))


def test_our_own_files_can_be_checked():
    from minillm.ops import softmax as module_or_op

    path = sys.modules["minillm.ops.softmax"].__file__
    with opened(path) as module:
        assert find_pairs(module, path)["softmax"].forward is module_or_op
    assert "minillm.ops.softmax" in sys.modules


def test_an_exception_in_a_function_is_one_line():
    write("def broken(x):\n    return x['key']", "helper.py")
    text = """
        import sys
        import numpy as np
        from helper import broken
        def a(x):
            return broken({})
        def b(x):
            return np.ones(3) + np.ones(4)
        def c(x):
            sys.exit("bye")
        def d(): return 1
        def e(x): raise KeyboardInterrupt
        def f(x): raise MemoryError
        """
    with opened(write(text)) as module:

        def message(name):
            with pytest.raises(StudentError) as caught:
                guarded(getattr(module, name), "layers.py")(1)
            return str(caught.value)

        assert message("a") == "helper.py:2: KeyError: 'key'"
        assert message("b").startswith("layers.py:8: ValueError: operands could not be broadcast")
        assert message("c") == "layers.py:10: it calls sys.exit('bye')"
        assert message("d") == (
            "layers.py:11: TypeError: d() takes 0 positional arguments but 1 was given"
        )
        with pytest.raises(KeyboardInterrupt):
            guarded(module.e, "layers.py")(1)
        with pytest.raises(MemoryError):
            guarded(module.f, "layers.py")(1)
        assert guarded(module.d, "layers.py")() == 1


def test_a_signature_that_cannot_be_read():
    text = """
        class Compiled:
            __signature__ = "none"
            def __call__(self, x): pass
        f = Compiled()
        def f_backward(dy, c): pass
        """
    pair = found(text)["f"]
    assert refused(lambda: pair.parameters) == "f: its parameters cannot be read"


def test_parameters_are_those_with_a_name():
    pair = found("def f(a, /, b, *rest, c, **more): pass\ndef f_backward(dy, c): pass")["f"]
    assert list(pair.parameters) == ["a", "b", "c"]
    assert pair.takes_any_keyword
    assert not found(PAIR.format("g"))["g"].takes_any_keyword
