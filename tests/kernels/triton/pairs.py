"""How a pair of Triton is held to its op, and the broken kernels that must not pass the same."""

import importlib.util
import inspect

import numpy as np
import torch

import minillm
from minillm.tree import leaves, map_leaves
from minillm_kernels.triton import _norm, _norm_kernels
from tests.kernels.harness import TORCH_TYPES, as_good_as

__all__ = ["broken_norm", "check_pair", "mutant", "normal"]


def normal(rng, shape, dtype, scale=1.0, offset=0.0):
    """Normal values that `dtype` holds exactly, in float64."""
    values = scale * rng.standard_normal(shape) + offset
    return torch.from_numpy(np.asarray(values)).to(TORCH_TYPES[dtype]).double().numpy()


def check_pair(place, op, pair, args, vendor, dtype, *, kwargs=None, numbers=None, seed=0):
    """Outputs and gradients at most twice as far from float64's as the vendor's.

    Parameters
    ----------
    op : of minillm.ops; its reference gives the truth
    pair : (forward, backward) of Triton
    args : float64 arrays that `dtype` holds exactly (nests and None allowed)
    vendor : torch function of the same positional arguments, returning the same outputs
    kwargs : keyword arguments but arrays of integers
    numbers : {keyword: array of integers}
    """
    kwargs, numbers = kwargs or {}, numbers or {}
    with minillm.backend("numpy"):
        out, cache = op(*args, **kwargs, **numbers)
        rng = np.random.default_rng([seed, 11])
        dout = map_leaves(lambda a: normal(rng, np.shape(a), dtype), out)
        truth = leaves_of([out, op.backward(dout, cache)])
    forward, backward = pair
    tensors = [map_leaves(lambda a: place.tensor(a, dtype), arg) for arg in args]
    sent = {key: place.tensor(value) for key, value in numbers.items()}
    ours, saved = forward(*tensors, **kwargs, **sent)
    upstream = map_leaves(lambda d, o: place.tensor(np.asarray(d)).to(o.dtype), dout, ours)
    mine = leaves_of([ours, backward(upstream, saved)])
    theirs = leaves_of(vendor_results(place, vendor, tensors, upstream))
    assert mine.keys() == theirs.keys() == truth.keys()
    for name, exact in truth.items():
        assert mine[name].dtype == theirs[name].dtype, f"{name}: {mine[name].dtype}"
        a, b = place.numpy(mine[name]), place.numpy(theirs[name])
        as_good_as(a, b, np.asarray(exact), dtype, f"{op.__name__} {name}")


def vendor_results(place, vendor, tensors, upstream):
    wanted = map_leaves(lambda t: t.clone().requires_grad_(), tensors)
    with place.exact_vendor():
        out = vendor(*wanted)
        pairs = zip(leaves(out), leaves(upstream), strict=True)
        torch.autograd.backward(
            *zip(*((o, d.to(o.dtype)) for (_, o), (_, d) in pairs), strict=True)
        )
    grads = map_leaves(lambda t: t.grad, wanted)
    return [out, grads[0] if len(grads) == 1 else grads]


def leaves_of(nest):
    return dict(leaves(nest))


def mutant(module, old, new, folder):
    """A copy of a module of kernels with one piece of its text replaced; it registers nothing."""
    source = inspect.getsource(module)
    assert source.count(old) == 1, f"{source.count(old)} places read {old!r}"
    lines = [line for line in source.replace(old, new).splitlines() if "register(" not in line]
    path = folder / f"mutant_{module.__name__.rpartition('.')[2]}.py"
    path.write_text("\n".join(lines))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def broken_norm(monkeypatch, old, new, folder):
    """The norms' launchers with a mutant of their kernels."""
    broken = mutant(_norm_kernels, old, new, folder)
    for name in ("norm_forward", "norm_backward"):
        monkeypatch.setattr(_norm, name, getattr(broken, name))
    return _norm
