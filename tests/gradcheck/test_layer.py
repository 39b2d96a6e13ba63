import threading

import numpy as np
import pytest

from minillm.gradcheck import check_layer, check_vjp


def rng(seed=0):
    return np.random.default_rng(seed)


def drawn(*shape, seed=0):
    return rng(seed).standard_normal(shape)


def verdicts(report):
    return {leaf.name: leaf.verdict for leaf in report.leaves}


def failed(report):
    return [leaf.name for leaf in report.leaves if leaf.verdict == "fail"]


def rules(report):
    return [(finding.rule, finding.leaf) for finding in report.contract]


def arrays_in(value, seen=None):
    """All arrays that an object holds, however deep, for a comparison."""
    if isinstance(value, np.ndarray):
        return [value.copy()]
    if isinstance(value, dict):
        return [a for child in value.values() for a in arrays_in(child)]
    if isinstance(value, list | tuple):
        return [a for child in value for a in arrays_in(child)]
    return arrays_in(vars(value)) if hasattr(value, "__dict__") else []


def checked(layer, *inputs, **options):
    """check_layer's report, and proof that the layer and its inputs stay as they were."""
    before = arrays_in(layer), arrays_in(inputs)
    report = check_layer(layer, *inputs, **options)
    for was, now in zip(before, (arrays_in(layer), arrays_in(inputs)), strict=True):
        assert len(was) == len(now)
        assert all(map(np.array_equal, was, now))
    return report


# --- layers in the shapes that courses give them


class Affine:
    """Parameters and gradients in dicts; subclasses spoil one thing each."""

    factor = 1.0

    def __init__(self, n_in=4, n_out=3):
        self.params = {"W": drawn(n_in, n_out, seed=1), "b": drawn(n_out, seed=2)}
        self.grads = {}

    def forward(self, x):
        self.x = x
        return x @ self.params["W"] + self.params["b"]

    def backward(self, dout):
        self.grads["W"] = self.x.T @ dout
        self.grads["b"] = dout.sum(0)
        return dout @ self.params["W"].T


class Aliased(Affine):
    """A second name for the same array, which forward uses."""

    def __init__(self):
        super().__init__()
        self.W, self.b = self.params["W"], self.params["b"]

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b


class WithD(Affine):
    """Gradients under dW and db."""

    def backward(self, dout):
        self.grads = {"dW": self.x.T @ dout, "db": dout.sum(0)}
        return dout @ self.params["W"].T


class AddingUp:
    """As in numpy-ml: gradients are added up, inputs kept in a list, parameters made late."""

    def __init__(self, n_out=3):
        self.X, self.n_out = [], n_out
        self.parameters = {"W": None, "b": None}
        self.gradients = {"W": None, "b": None}

    def forward(self, X, retain_derived=True):
        if self.parameters["W"] is None:
            self.parameters = {
                "W": np.random.default_rng().standard_normal((X.shape[1], self.n_out)),
                "b": np.full((1, self.n_out), 0.5),
            }
            self.gradients = {k: np.zeros_like(v) for k, v in self.parameters.items()}
        if retain_derived:
            self.X.append(X)
        return np.tanh(X @ self.parameters["W"] + self.parameters["b"])

    def backward(self, dLdy, retain_grads=True):
        dX = []
        for dy, x in zip([dLdy], self.X, strict=False):
            dZ = dy * (1 - np.tanh(x @ self.parameters["W"] + self.parameters["b"]) ** 2)
            if retain_grads:
                self.gradients["W"] += x.T @ dZ
                self.gradients["b"] += dZ.sum(0, keepdims=True)
            dX.append(dZ @ self.parameters["W"].T)
        return dX[0] if len(dX) == 1 else dX


class Listed:
    """As in "Deep Learning from Scratch": lists, whose arrays are written to."""

    def __init__(self):
        self.params = [drawn(4, 3, seed=1), drawn(3, seed=2)]
        self.grads = [np.zeros_like(p) for p in self.params]

    def forward(self, x):
        W, b = self.params
        self.x = x
        return x @ W + b

    def backward(self, dout):
        W, _ = self.params
        self.grads[0][...] = self.x.T @ dout
        self.grads[1][...] = dout.sum(axis=0)
        return dout @ W.T


class Attributed:
    """Parameters and gradients as attributes."""

    def __init__(self):
        self.W, self.b, self.stride = drawn(4, 3, seed=1), drawn(3, seed=2), 1
        self.dW = self.db = None

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout):
        self.dW, self.db = self.x.T @ dout, dout.sum(0)
        self.grad_W, self.grad_b = self.dW, self.db
        return dout @ self.W.T


class Network:
    """Layers in a layer, their dicts in its dict."""

    def __init__(self):
        self.layers = {"first": Affine(4, 5), "second": Affine(5, 3)}
        self.params = {name: layer.params for name, layer in self.layers.items()}
        self.grads = {name: layer.grads for name, layer in self.layers.items()}

    def forward(self, x):
        self.hidden = np.tanh(self.layers["first"].forward(x))
        return self.layers["second"].forward(self.hidden)

    def backward(self, dout):
        dhidden = self.layers["second"].backward(dout) * (1 - self.hidden**2)
        return self.layers["first"].backward(dhidden)


class Running:
    """Batch norm with running statistics, which it replaces."""

    def __init__(self, training=True):
        self.params = {"gain": drawn(4, seed=1), "bias": drawn(4, seed=2)}
        self.grads, self.training = {}, training
        self.mean, self.var = np.zeros(4), np.ones(4)

    def forward(self, x):
        if self.training:
            mean, var = x.mean(0), x.var(0)
            self.mean = 0.9 * self.mean + 0.1 * mean
            self.var *= 0.9
            self.var += 0.1 * var
        else:
            mean, var = self.mean, self.var
        self.inv = 1 / np.sqrt(var + 1e-5)
        self.normed = (x - mean) * self.inv
        return self.params["gain"] * self.normed + self.params["bias"]

    def backward(self, dout):
        self.grads["gain"] = (dout * self.normed).sum(0)
        self.grads["bias"] = dout.sum(0)
        dn = dout * self.params["gain"]
        if not self.training:
            return dn * self.inv
        return self.inv * (dn - dn.mean(0) - self.normed * (dn * self.normed).mean(0))


class RunningAmongParameters:
    """As numpy-ml has it: the statistics stand among the parameters, without gradients."""

    def __init__(self, training=True):
        self.params = {"gain": drawn(4, seed=1), "mean": np.full(4, 0.1)}
        self.grads, self.training = {}, training

    def forward(self, x):
        mean = self.params["mean"]
        if self.training:
            mean = x.mean(0)
            self.params["mean"] = 0.9 * self.params["mean"] + 0.1 * mean
        self.centred = x - mean
        return self.params["gain"] * self.centred**2

    def backward(self, dout):
        self.grads["gain"] = (dout * self.centred**2).sum(0)
        dx = 2 * dout * self.params["gain"] * self.centred
        return dx - dx.mean(0) if self.training else dx


class ReLU:
    def forward(self, x):
        self.mask = x > 0
        return x * self.mask

    def backward(self, dout):
        return dout * self.mask


class Bilinear:
    """Two inputs, a scalar parameter, and settings beside the parameters."""

    def __init__(self, scale=0.7):
        self.params = {"W": drawn(3, 4, seed=1), "scale": scale, "heads": 2, "mask": None}
        self.grads = {}

    def forward(self, x, y):
        self.x, self.y = x, y
        return self.params["scale"] * np.einsum("bi,ij,bj->b", x, self.params["W"], y)

    def backward(self, dout):
        scale, W = self.params["scale"], self.params["W"]
        d = scale * dout[:, None]
        self.grads["W"] = (d * self.x).T @ self.y
        self.grads["scale"] = np.sum(dout * np.einsum("bi,ij,bj->b", self.x, W, self.y))
        return d * (self.y @ W.T), d * (self.x @ W)


class Table:
    """ids come in, and nothing goes back to them."""

    def __init__(self):
        self.params, self.grads = {"table": drawn(5, 3, seed=1)}, {"table": np.zeros((5, 3))}

    def forward(self, ids):
        self.ids = ids
        return self.params["table"][ids]

    def backward(self, dout):
        np.add.at(self.grads["table"], self.ids, dout)


class Shifted(Table):
    """ids and a floating input, whose gradient alone is returned."""

    def forward(self, ids, x):
        return super().forward(ids) + x

    def backward(self, dout):
        super().backward(dout)
        return dout


class Dropout:
    def __init__(self):
        self.rng = rng(3)

    def forward(self, x):
        self.mask = self.rng.random(x.shape) < 0.5
        return 2 * x * self.mask

    def backward(self, dout):
        return 2 * dout * self.mask


X = drawn(5, 4)
IDS = np.array([0, 3, 3, 1])


@pytest.mark.parametrize(
    ("layer", "inputs", "options", "names"),
    [
        (Affine(), (X,), {}, ["x", "params.W", "params.b"]),
        (Aliased(), (X,), {}, ["x", "params.W", "params.b"]),
        (WithD(), (X,), {}, ["x", "params.W", "params.b"]),
        (Listed(), (X,), {}, ["x", "params.0", "params.1"]),
        (Attributed(), (X,), {"params": ("W", "b")}, ["x", "params.W", "params.b"]),
        (
            Attributed(),
            (X,),
            {"params": ["b", "W"], "grads": ["grad_b", "grad_W"]},
            ["x", "params.b", "params.W"],
        ),
        (Attributed(), (X,), {"params": ()}, ["x"]),
        (
            AddingUp(),
            (X,),
            {"params": "parameters", "grads": "gradients"},
            ["X", "params.W", "params.b"],
        ),
        (
            Network(),
            (X,),
            {},
            ["x", *(f"params.{n}.{p}" for n in ("first", "second") for p in ("W", "b"))],
        ),
        (Running(), (X,), {}, ["x", "params.gain", "params.bias"]),
        (Running(False), (X,), {}, ["x", "params.gain", "params.bias"]),
        (ReLU(), (X,), {}, ["x"]),
        (Dropout(), (X,), {}, ["x"]),
        (
            Bilinear(np.float64(0.7)),
            (drawn(5, 3), X),
            {},
            ["x", "y", "params.W", "params.scale"],
        ),
        (Bilinear(np.array(0.7)), (drawn(5, 3), X), {}, ["x", "y", "params.W", "params.scale"]),
        (Bilinear(0.7), (drawn(5, 3), X), {}, ["x", "y", "params.W"]),
        (Table(), (IDS,), {}, ["params.table"]),
        (Shifted(), (IDS, drawn(4, 3)), {}, ["x", "params.table"]),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "forward") else "",
)
def test_a_right_layer_passes(layer, inputs, options, names):
    report = checked(layer, *inputs, **options)
    assert report.passed, report
    assert [leaf.name for leaf in report.leaves] == names
    assert report.subject == type(layer).__name__


def test_a_float32_layer():
    layer = Affine()
    layer.params = {name: value.astype(np.float32) for name, value in layer.params.items()}
    assert checked(layer, X.astype(np.float32)).passed


def test_gradients_left_by_an_earlier_backward_are_not_added_to():
    layer = Table()
    layer.forward(IDS)
    layer.backward(np.ones((4, 3)))
    assert np.any(layer.grads["table"])
    assert checked(layer, IDS).passed


# --- wrong layers fail at the right leaf


def wrong(kind, spoil, *args):
    """A layer of the kind whose backward's result goes through spoil(layer, dinputs)."""

    def backward(self, dout):
        return spoil(self, kind.backward(self, dout))

    return type(f"Wrong{kind.__name__}", (kind,), {"backward": backward})(*args)


def entry(path, change=lambda gradient: 1.5 * gradient):
    """Spoil the gradient that stands at a path like "grads.W" of the layer."""

    def spoil(layer, dinputs):
        first, *keys = path.split(".")
        if not keys:
            setattr(layer, first, change(getattr(layer, first)))
            return dinputs
        held = getattr(layer, first)
        for key in keys[:-1]:
            held = held[key]
        key = int(keys[-1]) if isinstance(held, list) else keys[-1]
        held[key] = change(held[key])
        return dinputs

    return spoil


@pytest.mark.parametrize(
    ("layer", "inputs", "options", "leaf"),
    [
        (wrong(Affine, entry("grads.W")), (X,), {}, "params.W"),
        (wrong(Affine, entry("grads.b", lambda db: db / 5)), (X,), {}, "params.b"),
        (wrong(Affine, lambda layer, dx: -dx), (X,), {}, "x"),
        (wrong(Aliased, entry("grads.b", np.zeros_like)), (X,), {}, "params.b"),
        (wrong(WithD, entry("grads.dW")), (X,), {}, "params.W"),
        (wrong(Listed, entry("grads.1")), (X,), {}, "params.1"),
        (wrong(Attributed, entry("db")), (X,), {"params": ("W", "b")}, "params.b"),
        (
            wrong(Attributed, entry("grad_W")),
            (X,),
            {"params": ("W", "b"), "grads": ("grad_W", "grad_b")},
            "params.W",
        ),
        (
            wrong(AddingUp, entry("gradients.b")),
            (X,),
            {"params": "parameters", "grads": "gradients"},
            "params.b",
        ),
        (wrong(Network, entry("grads.first.b")), (X,), {}, "params.first.b"),
        (wrong(Running, lambda layer, dx: dx + 0.1 * layer.normed), (X,), {}, "x"),
        (wrong(ReLU, lambda layer, dx: dx * 0.9), (X,), {}, "x"),
        (
            wrong(Bilinear, lambda layer, dxy: (dxy[0], 2 * dxy[1]), np.float64(0.7)),
            (drawn(5, 3), X),
            {},
            "y",
        ),
        (
            wrong(Bilinear, entry("grads.scale"), np.array(0.7)),
            (drawn(5, 3), X),
            {},
            "params.scale",
        ),
        (wrong(Table, entry("grads.table")), (IDS,), {}, "params.table"),
        (wrong(Shifted, lambda layer, dx: dx / 2), (IDS, drawn(4, 3)), {}, "x"),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "forward") else "",
)
def test_a_wrong_layer_fails_at_the_wrong_leaf(layer, inputs, options, leaf):
    report = checked(layer, *inputs, **options)
    assert failed(report) == [leaf], report


def test_two_gradients_exchanged():
    layer = Attributed()
    layer.W, layer.b = drawn(3, 3, seed=1), drawn(3, 3, seed=2)
    names = {"params": ("W", "b"), "grads": ("grad_b", "grad_W")}

    class Square(Attributed):
        def forward(self, x):
            self.x = x
            return x @ self.W + self.b

        def backward(self, dout):
            self.grad_W, self.grad_b = self.x.T @ dout, dout
            return dout @ self.W.T

    layer.__class__ = Square
    report = checked(layer, drawn(3, 3), **names)
    assert failed(report) == ["params.W", "params.b"]
    assert "other_parameter" in [d.cause for d in report.diagnoses]


# --- contracts


def without(name):
    def spoil(layer, dx):
        del layer.grads[name]
        return dx

    return spoil


@pytest.mark.parametrize(
    ("layer", "rule", "leaf"),
    [
        (wrong(Affine, without("b")), "missing", "params.b"),
        (wrong(Affine, lambda layer, dx: None), "missing", "x"),
        (wrong(Affine, lambda layer, dx: dx.T), "shape", "x"),
        (wrong(Affine, entry("grads.b", lambda db: db[None])), "shape", "params.b"),
        (wrong(Affine, entry("grads.W", lambda dW: dW.astype("f4"))), "dtype", "params.W"),
        (wrong(Affine, lambda layer, dx: (dx, dx, dx)), "structure", None),
    ],
)
def test_a_broken_contract_is_named(layer, rule, leaf):
    assert (rule, leaf) in rules(checked(layer, X))


def test_a_layer_that_writes_to_its_input():
    class InPlace(ReLU):
        def forward(self, x):
            self.mask = x > 0
            x *= self.mask
            return x

    x = X.copy()
    report = checked(InPlace(), x)
    assert rules(report) == [("mutates", "x")]
    assert failed(report) == []


def test_a_layer_that_writes_to_the_upstream_gradient():
    class InPlace(ReLU):
        def backward(self, dout):
            dout *= self.mask
            return dout

    assert ("mutates", None) in rules(checked(InPlace(), X))


def test_a_layer_that_learns_in_its_backward():
    def step(layer, dx):
        layer.params["W"] -= 0.1 * layer.grads["W"]
        return dx

    report = checked(wrong(Affine, step), X)
    assert ("mutates", "params.W") in rules(report)
    assert failed(report) == []


def test_randomness_from_nowhere():
    class Noisy(ReLU):
        def forward(self, x):
            return super().forward(x) * np.random.default_rng().random(x.shape)

    assert ("not deterministic", None) in rules(checked(Noisy(), X))


def test_statistics_among_the_parameters():
    report = checked(RunningAmongParameters(), X)
    assert verdicts(report) == {
        "x": "pass",
        "params.gain": "pass",
        "params.mean": "inconclusive",
    }
    assert checked(RunningAmongParameters(), X, allow_zero="params.mean").passed
    # used as they are, they are parameters like others
    assert ("missing", "params.mean") in rules(checked(RunningAmongParameters(False), X))


# --- what can't be checked is said


class Pairwise(ReLU):
    def backward(self, dout, cache):
        return dout * cache


class Silent(Affine):
    def backward(self, dout):
        return dout @ self.params["W"].T


class Locked(ReLU):
    def __init__(self):
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (lambda: check_layer(3, X), "int has no method forward"),
        (lambda: check_layer(Pairwise(), X), r"takes? the upstream gradient alone.*check_vjp"),
        (lambda: check_layer(Attributed(), X), r"'params'.*params=\('W', 'b'\)"),
        (lambda: check_layer(Affine(), X, params=("W",)), "Affine has no attribute W"),
        (lambda: check_layer(Attributed(), X, params="W"), "must be a dict or list.*ndarray"),
        (
            lambda: check_layer(Attributed(), X, params=("W", "b"), grads=("dW",)),
            "grads must name 2",
        ),
        (lambda: check_layer(Silent(), X, grads="gradients"), "'gradients', got NoneType"),
        (lambda: check_layer(Locked(), X), "Locked cannot be copied"),
        (lambda: check_layer(ReLU(), np.arange(3)), "nothing to differentiate"),
        (lambda: check_layer(Affine(), X, allow_zero="params.c"), "allow_zero names 'params.c'"),
    ],
)
def test_mistakes_of_the_caller_are_named(check, words):
    with pytest.raises(ValueError, match=words):
        check()


def test_a_pair_of_methods_with_a_cache_is_for_check_vjp():
    class Cached:
        def forward(self, x):
            return np.tanh(x), x

        def backward(self, dout, cache):
            return dout * (1 - np.tanh(cache) ** 2)

    layer = Cached()
    assert check_vjp(layer.forward, layer.backward, [X]).passed


def test_the_replay_line_runs():
    layer = wrong(Attributed, entry("db"))
    options = {"params": ("W", "b"), "seed": 3, "scope": "full"}
    report = checked(layer, drawn(2, 4), **options)
    names = {"check_layer": check_layer, "wrongattributed": layer, "np": np}
    assert str(eval(report.replay, names)) == str(report)
    report = checked(wrong(Bilinear, entry("grads.W")), drawn(2, 3), drawn(2, 4), names=("a", "b"))
    assert [leaf.name for leaf in report.leaves][:2] == ["a", "b"]
    layer = wrong(Bilinear, entry("grads.W"))
    assert str(eval(report.replay, names | {"wrongbilinear": layer})) == str(report)
