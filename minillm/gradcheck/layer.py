"""A layer object, as most course code has it, seen as a pair of functions.

layer.forward(x) -> out;  layer.backward(dout) -> dx;  layer.params["W"], layer.grads["W"]

Left out: a backward that takes what forward returned, see check_vjp(layer.forward, layer.backward);
gradients that stand nowhere but in what backward returns.
"""

import copy
import inspect

import numpy as np

from minillm.gradcheck import arrays
from minillm.tree import leaves, map_leaves

__all__ = ["LayerPair"]


class LayerPair:
    """forward(*inputs, parameters) -> (out, cache) and backward(dout, cache) -> gradients.

    Every call works on a copy of the layer, so that the one given is never changed.

    Raises
    ------
    ValueError
        where the layer lacks a method or the containers, or cannot be copied.
    """

    def __init__(self, layer, params, grads, inputs):
        self.kind = type(layer).__name__
        self.params, self.grads, self.n_inputs = params, grads, len(inputs)
        self.wanted = [i for i, value in enumerate(inputs) if _holds_floats(value)]
        self.effects = {}  # {parameter without a gradient: whether the output depends on it}
        self._check_methods(layer)
        try:
            self.layer = copy.deepcopy(layer)
        except Exception as error:
            message = f"{self.kind} cannot be copied, which each evaluation needs"
            raise ValueError(f"{message}: {error}") from error
        self._check_containers()
        if not any(True for _ in leaves(self.parameters())):
            self._awaken(inputs)
        # what an earlier backward left is not to be added to
        held = self._held(self.layer)
        _write(held, map_leaves(_zeros, _read(held)))

    def parameters(self, layer=None):
        """The parameters, by name, as the layer holds them."""
        layer = self.layer if layer is None else layer
        if isinstance(self.params, str):
            return getattr(layer, self.params, None) or {}
        return {name: getattr(layer, name) for name in self.params}

    def forward(self, *args):
        """One forward of a fresh copy of the layer that holds the given parameters."""
        *inputs, parameters = args
        layer = copy.deepcopy(self.layer)
        holder = self.parameters(layer) if isinstance(self.params, str) else Attributes(layer)
        _write(holder, parameters)
        return layer.forward(*inputs), (layer, args)

    def backward(self, dout, cache):
        """The gradients of the inputs and, from the layer's containers, of its parameters."""
        given, args = cache
        layer = copy.deepcopy(given)  # gradients may be added up in it
        dinputs = layer.backward(dout)
        held = self._gradients(layer, args[-1])
        gradients = _matched(args[-1], held, lambda name, value: self._absent(name, value, args))
        self._tell_changes(given, layer, args[-1], held)
        return (*self._by_input(dinputs), gradients)

    def _check_methods(self, layer):
        for method in ("forward", "backward"):
            if not callable(getattr(layer, method, None)):
                raise ValueError(f"{self.kind} has no method {method}")
        try:
            inspect.signature(layer.backward).bind(None)
        except TypeError as error:
            raise ValueError(
                f"{self.kind}.backward must take the upstream gradient alone ({error}); for a "
                "backward(dout, cache) use check_vjp(layer.forward, layer.backward, inputs)"
            ) from None
        except ValueError:  # compiled code without a signature
            pass

    def _check_containers(self):
        if not isinstance(self.params, str):
            missing = [name for name in self.params if not hasattr(self.layer, name)]
            if missing:
                raise ValueError(f"{self.kind} has no attribute {', '.join(missing)}")
            if not isinstance(self.grads, str) and len(self.grads) != len(self.params):
                raise ValueError(f"grads must name {len(self.params)}, got {self.grads!r}")
            return
        held = getattr(self.layer, self.params, None)
        if held is None:  # a layer without parameters needs no container for them
            loose = [n for n, v in getattr(self.layer, "__dict__", {}).items() if _is_float(v)]
            if not loose:
                return
            raise ValueError(
                f"{self.kind} must hold its parameters in a dict or list {self.params!r}; name "
                f"another with params=, or attributes themselves, params={tuple(loose)!r}, or none "
                "with params=()"
            )
        if not isinstance(held, dict | list | tuple):
            raise ValueError(
                f"{self.kind}.{self.params} must be a dict or list of parameters, got "
                f"{type(held).__name__}"
            )

    def _awaken(self, inputs):
        """Some layers make their parameters in their first forward: have it made once for all."""
        started = copy.deepcopy(self.layer)
        started.forward(*copy.deepcopy(inputs))
        if any(True for _ in leaves(self.parameters(started))):
            self.layer = started

    def _held(self, layer):
        """Where the gradients are, before or after backward; None where nothing is."""
        if isinstance(self.params, str):
            return getattr(layer, self.grads, None)
        named = isinstance(self.grads, str)
        pairs = zip(self.params, self.params if named else self.grads, strict=True)
        places = {name: f"d{grad}" if named else grad for name, grad in pairs}
        return Attributes(layer, places)

    def _gradients(self, layer, parameters):
        held = self._held(layer)
        if not isinstance(held, dict | list | tuple | Attributes) and _holds_floats(parameters):
            raise ValueError(
                f"after backward {self.kind} must hold its gradients in a dict or list "
                f"{self.grads!r}, got {type(held).__name__}; name another with grads="
            )
        return _read(held)

    def _absent(self, name, value, args):
        """The gradient of a parameter for which the layer has none: zeros where it has no effect.

        Layers keep running statistics among their parameters; whether these matter, one forward
        with another value tells.
        """
        if name not in self.effects:
            other = arrays.like(1.01 * arrays.host(value) + 0.01, value)
            changed = map_leaves(lambda leaf: other if leaf is value else leaf, args[-1])
            outs = [self.forward(*args[:-1], params)[0] for params in (args[-1], changed)]
            before, after = ([arrays.host(leaf) for _, leaf in leaves(out)] for out in outs)
            self.effects[name] = not all(map(arrays.same, before, after))
        return None if self.effects[name] else _zeros(value)

    def _tell_changes(self, before, after, parameters, held):
        """Where backward changed a parameter, change the one given: the checker looks there."""
        learned = _matched(parameters, held, lambda name, value: None)
        names = dict(leaves(learned)).keys()
        olds, news = dict(leaves(self.parameters(before))), dict(leaves(self.parameters(after)))
        for name, given in leaves(parameters):
            if name in names and _is_float(given):
                new = arrays.host(news[name])
                if not arrays.same(new, arrays.host(olds[name])):
                    arrays.restore(given, new)

    def _by_input(self, dinputs):
        """One gradient an input, also where backward returns those of floating inputs alone."""
        several = isinstance(dinputs, tuple) or (isinstance(dinputs, list) and self.n_inputs > 1)
        came = tuple(dinputs) if several else (dinputs,)
        if len(came) != self.n_inputs and len(came) == len(self.wanted):
            placed = dict(zip(self.wanted, came, strict=True))
            return tuple(placed.get(i) for i in range(self.n_inputs))
        if not self.wanted and came == (None,):
            return (None,) * self.n_inputs
        return came


class Attributes:
    """An object's attributes under names, read and written like a dict's entries."""

    def __init__(self, layer, places=None):
        self.layer, self.places = layer, places

    def __getitem__(self, name):
        return getattr(self.layer, self.places[name] if self.places else name, None)

    def __setitem__(self, name, value):
        setattr(self.layer, self.places[name] if self.places else name, value)


def _read(held):
    return {name: held[name] for name in held.places} if isinstance(held, Attributes) else held


def _write(holder, values):
    """Write values into the arrays of a nest; what has no memory of its own is replaced.

    Into the same memory, since a layer may hold a second name for a parameter's array.
    """
    if isinstance(values, dict):
        items = list(values.items())
    elif isinstance(values, list | tuple):
        items = list(enumerate(values))
    else:
        return
    for key, value in items:
        mine = holder[key]
        if isinstance(mine, np.generic):
            holder[key] = value
        elif _is_float(mine):
            arrays.restore(mine, arrays.host(value))
        elif isinstance(mine, dict | list | tuple):
            _write(mine, value)


def _matched(parameters, held, absent, path=()):
    """The gradients in the structure of the parameters; absent(name, parameter) for what lacks."""
    if isinstance(parameters, dict):
        return {
            key: _matched(value, _entry(held, key), absent, (*path, str(key)))
            for key, value in parameters.items()
        }
    if isinstance(parameters, list | tuple):
        return [
            _matched(value, _entry(held, i), absent, (*path, str(i)))
            for i, value in enumerate(parameters)
        ]
    if not _is_float(parameters):
        return None
    return absent(".".join(path), parameters) if held is None else held


def _entry(held, key):
    """The entry of a container of gradients under a parameter's name, or that with a d before."""
    if isinstance(held, dict):
        return held.get(key, held.get(f"d{key}"))
    if isinstance(held, list | tuple) and isinstance(key, int) and key < len(held):
        return held[key]
    return None


def _zeros(value):
    if not _is_float(value):
        return value
    return arrays.like(np.zeros(tuple(value.shape)), value)


def _is_float(value):
    """As the checker sees it; the kinds that it refuses are left to its own message."""
    try:
        return arrays.is_float(value)
    except ValueError:
        return False


def _holds_floats(nest):
    return any(_is_float(leaf) for _, leaf in leaves(nest))
