"""A layer object, as most course code has it, seen as a pair of functions.

layer.forward(x) -> out;  layer.backward(dout) -> dx;  layer.params["W"], layer.grads["W"]
"""

import copy

from minillm.gradcheck import arrays
from minillm.tree import leaves, map_leaves

__all__ = ["LayerPair"]


class LayerPair:
    """forward(*inputs, parameters) -> (out, layer) and backward(dout, layer) -> gradients.

    Raises
    ------
    ValueError
        where the layer lacks a method or the dicts, or cannot be copied.
    """

    def __init__(self, layer, params, grads, n_inputs):
        for method in ("forward", "backward"):
            if not callable(getattr(layer, method, None)):
                raise ValueError(f"{type(layer).__name__} has no method {method}")
        self.params, self.grads, self.n_inputs = params, grads, n_inputs
        try:
            self.layer = copy.deepcopy(layer)
        except Exception as error:
            message = f"{type(layer).__name__} cannot be copied, which each evaluation needs"
            raise ValueError(f"{message}: {error}") from error
        self.named = isinstance(params, str)
        if self.named and not isinstance(getattr(layer, params, None), dict):
            raise ValueError(
                f"{type(layer).__name__} must hold its parameters in a dict {params!r}; name "
                "another with params=, or the attributes themselves: params=('W', 'b')"
            )
        missing = [] if self.named else [name for name in params if not hasattr(layer, name)]
        if missing:
            raise ValueError(f"{type(layer).__name__} has no attribute {', '.join(missing)}")

    def parameters(self, layer=None):
        """The parameters, by name, as the layer holds them."""
        layer = self.layer if layer is None else layer
        if self.named:
            return getattr(layer, self.params)
        return {name: getattr(layer, name) for name in self.params}

    def forward(self, *args):
        """One forward of a fresh copy of the layer that holds the given parameters."""
        *inputs, parameters = args
        layer = copy.deepcopy(self.layer)
        # into the same memory: a layer may hold a second name for a parameter's array
        for (_, mine), (_, value) in zip(
            leaves(self.parameters(layer)), leaves(parameters), strict=True
        ):
            if arrays.is_array(mine):
                arrays.restore(mine, arrays.host(value))
        return layer.forward(*inputs), layer

    def backward(self, dout, layer):
        """The gradients of the inputs and, from the layer's dict, of its parameters."""
        layer = copy.deepcopy(layer)  # gradients may be added up in it
        dinputs = layer.backward(dout)
        dinputs = dinputs if isinstance(dinputs, tuple) else (dinputs,)
        dinputs = (*dinputs, *[None] * (self.n_inputs - len(dinputs)))
        return (*dinputs, self.gradients(layer))

    def gradients(self, layer):
        parameters = self.parameters(layer)
        if self.named:
            held = getattr(layer, self.grads, None)
            if not isinstance(held, dict):
                raise ValueError(
                    f"after backward {type(layer).__name__} must hold its gradients in a dict "
                    f"{self.grads!r}, got {type(held).__name__}; name another with grads="
                )
        else:
            held = {name: getattr(layer, f"d{name}", None) for name in parameters}
        return {
            name: held.get(name, held.get(f"d{name}"))
            if any(arrays.is_float(leaf) for _, leaf in leaves(value))
            else map_leaves(lambda _: None, value)
            for name, value in parameters.items()
        }
