"""Layers as objects, as courses write them, for check_layer."""

import numpy as np

from minillm.gradcheck.awkward._family import Case, dims, magnitude, normal, right


class _Affine:
    """Parameters and gradients in dicts under the same names."""

    def __init__(self, weight, bias):
        self.params, self.grads = {"W": weight, "b": bias}, {}

    def forward(self, x):
        self.x = x
        out = x @ self.params["W"]
        return out if self.params["b"] is None else out + self.params["b"]

    def backward(self, dout):
        self.grads["W"] = self.x.T @ dout
        self.grads["b"] = None if self.params["b"] is None else dout.sum(0)
        return dout @ self.params["W"].T


class _Adding(_Affine):
    """Adds its gradients up over calls, from zeros, under names with a d."""

    def __init__(self, weight, bias):
        super().__init__(weight, bias)
        self.grads = {"dW": np.zeros_like(weight), "db": np.zeros_like(bias)}

    def backward(self, dout):
        self.grads["dW"] += self.x.T @ dout
        self.grads["db"] += dout.sum(0)
        return dout @ self.params["W"].T


class _Attributes:
    """W and b and their gradients dW and db as attributes."""

    def __init__(self, weight, bias):
        self.W, self.b = weight, bias

    def forward(self, x):
        self.x = x
        return np.tanh(x @ self.W + self.b)

    def backward(self, dout):
        dz = dout * (1 - np.tanh(self.x @ self.W + self.b) ** 2)
        self.dW, self.db = self.x.T @ dz, dz.sum(0)
        return dz @ self.W.T


class _BatchNorm:
    """Keeps running means, which each forward in training moves."""

    def __init__(self, gain, bias):
        self.params, self.grads = {"gain": gain, "bias": bias}, {}
        self.running = np.zeros_like(gain)

    def forward(self, x):
        self.running = 0.9 * self.running + 0.1 * x.mean(0)
        centred = x - x.mean(0)
        self.inverse = 1 / np.sqrt((centred**2).mean(0) + 1e-5)
        self.normed = centred * self.inverse
        return self.normed * self.params["gain"] + self.params["bias"]

    def backward(self, dout):
        self.grads = {"gain": (dout * self.normed).sum(0), "bias": dout.sum(0)}
        d = dout * self.params["gain"]
        return self.inverse * (d - d.mean(0) - self.normed * (d * self.normed).mean(0))


class _Dropout:
    """Owns its generator, which each forward advances; has no parameters."""

    def __init__(self, seed):
        self.rng, self.params, self.grads = np.random.default_rng(seed), {}, {}

    def forward(self, x):
        self.mask = (self.rng.random(x.shape) < 0.7).astype(x.dtype)
        self.mask.flat[0] = 1
        return x * self.mask

    def backward(self, dout):
        return dout * self.mask


class _Stack:
    """Two layers within one, whose parameter dicts it shows as one nest."""

    def __init__(self, first, second):
        self.layers = [first, second]
        self.params = {f"layer{i}": layer.params for i, layer in enumerate(self.layers)}
        self.grads = {}

    def forward(self, x):
        self.hidden = np.maximum(self.layers[0].forward(x), 0)
        return self.layers[1].forward(self.hidden)

    def backward(self, dout):
        d = self.layers[1].backward(dout) * (self.hidden > 0)
        d = self.layers[0].backward(d)
        self.grads = {f"layer{i}": layer.grads for i, layer in enumerate(self.layers)}
        return d


class _Embedding:
    """Takes ids, returns no gradient for them."""

    def __init__(self, weight):
        self.params, self.grads = {"weight": weight}, {}

    def forward(self, ids):
        self.ids = ids
        return self.params["weight"][ids]

    def backward(self, dout):
        self.grads["weight"] = np.zeros_like(self.params["weight"])
        np.add.at(self.grads["weight"], self.ids, dout)


def _affine(rng, dtype):
    n, c, k = dims(rng, 3)
    x = normal(rng, dtype, n, c, scale=magnitude(rng, 3))
    return x, normal(rng, dtype, c, k), normal(rng, dtype, k)


@right
def affine(rng, dtype):
    """A linear layer, with or without a bias."""
    x, weight, bias = _affine(rng, dtype)
    return Case.layer(_Affine(weight, bias if rng.random() < 0.7 else None), x)


@right
def adding(rng, dtype):
    """A layer that adds its gradients up."""
    x, weight, bias = _affine(rng, dtype)
    return Case.layer(_Adding(weight, bias), x)


@right(
    doubt=0.03,
    reasons=("noise", "curvature", "saturated"),
    why="saturated units leave a gradient that float32 hardly holds",
)
def attributes(rng, dtype):
    """Parameters as attributes, named one by one."""
    x, weight, bias = _affine(rng, dtype)
    return Case.layer(_Attributes(weight, bias), np.clip(x, -2, 2), params=("W", "b"))


@right
def batch_norm(rng, dtype):
    """A layer with running statistics."""
    n, c = dims(rng, 2, 6, 3)
    return Case.layer(
        _BatchNorm(normal(rng, dtype, c), normal(rng, dtype, c)), normal(rng, dtype, n, c)
    )


@right
def dropout(rng, dtype):
    """A layer with a generator of its own."""
    return Case.layer(_Dropout(int(rng.integers(1000))), normal(rng, dtype, *dims(rng, 2)))


@right
def stack(rng, dtype):
    """Layers in a layer, whose parameters keep their names."""
    n, c, k = dims(rng, 3, 4)
    first = _Affine(normal(rng, dtype, c, k), normal(rng, dtype, k) + 4)
    second = _Affine(normal(rng, dtype, k, 2), normal(rng, dtype, 2))
    return Case.layer(_Stack(first, second), normal(rng, dtype, n, c))


@right
def embedding(rng, dtype):
    """A layer whose input has no gradient."""
    v, c = dims(rng, 2)
    return Case.layer(_Embedding(normal(rng, dtype, v, c)), rng.integers(0, v, 5))
