import numpy as np
import pytest
import torch

from minillm.optim import SGD, Adagrad, Adam, AdamW, RMSprop
from minillm.optim.pieces import PIECE
from minillm.training.parallel import WorkerPool
from minillm.tree import flatten, map_leaves

STEPS = 20
RULES = {
    "sgd": (SGD, torch.optim.SGD, {}),
    "sgd decay": (SGD, torch.optim.SGD, {"weight_decay": 0.1}),
    "momentum": (SGD, torch.optim.SGD, {"momentum": 0.9}),
    "momentum decay": (SGD, torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    "nesterov": (SGD, torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
    "nesterov decay": (
        SGD,
        torch.optim.SGD,
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
    ),
    "adagrad": (Adagrad, torch.optim.Adagrad, {}),
    "adagrad decay": (Adagrad, torch.optim.Adagrad, {"eps": 1e-4, "weight_decay": 0.1}),
    "rmsprop": (RMSprop, torch.optim.RMSprop, {}),
    "rmsprop all": (
        RMSprop,
        torch.optim.RMSprop,
        {"alpha": 0.9, "eps": 1e-3, "momentum": 0.7, "weight_decay": 0.1},
    ),
    "adam": (Adam, torch.optim.Adam, {}),
    "adam all": (Adam, torch.optim.Adam, {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    "adamw": (AdamW, torch.optim.AdamW, {"weight_decay": 0.0}),
    "adamw all": (
        AdamW,
        torch.optim.AdamW,
        {"betas": (0.9, 0.99), "eps": 1e-4, "weight_decay": 0.3},
    ),
}


def nest(rng, dtype):
    """Matrices, vectors, a scalar, a leaf of several pieces, one in Fortran order, one absent."""

    def draw(*shape):
        return rng.standard_normal(shape).astype(dtype)

    return {
        "embedding": draw(7, 3),
        "blocks": [
            {"weight": draw(3, 5), "bias": draw(5)},
            {"weight": draw(5, 2).T.copy().T, "bias": None},
        ],
        "cube": draw(2, 3, 4),
        "gain": draw(4),
        "scale": draw(),
        "long": draw(2, PIECE // 2 + 3),
    }


def torch_groups(rule, params, settings):
    """AdamW decays leaves of two or more dimensions only; in torch these are two groups."""
    tensors = {name: torch.tensor(np.array(p), requires_grad=True) for name, p in params.items()}
    if rule is not AdamW:
        return tensors, [{"params": list(tensors.values())}]
    groups = [
        {"params": [t for t in tensors.values() if t.ndim >= 2]},
        {"params": [t for t in tensors.values() if t.ndim < 2], "weight_decay": 0.0},
    ]
    return tensors, groups


@pytest.mark.parametrize(("dtype", "tol"), [(np.float32, 1e-6), (np.float64, 1e-13)])
@pytest.mark.parametrize("name", RULES)
def test_matches_torch_over_20_steps(name, dtype, tol):
    rule, oracle, settings = RULES[name]
    rng = np.random.default_rng(3)
    params = nest(rng, dtype)
    optimizer = rule(lr=0.01, **settings)
    state = optimizer.init(params)
    tensors, groups = torch_groups(rule, flatten(params), settings)
    peer = oracle(groups, lr=0.01, **settings)
    for step in range(STEPS):
        grads = nest(rng, dtype)
        lr = 0.01 / (1 + step)
        for group in peer.param_groups:
            group["lr"] = lr
        for leaf, grad in flatten(grads).items():
            tensors[leaf].grad = torch.tensor(np.array(grad))
        peer.step()
        kept = map_leaves(np.copy, grads)
        optimizer.update(params, grads, state, lr)
        for leaf, grad in flatten(grads).items():
            assert np.array_equal(grad, flatten(kept)[leaf]), f"the gradient of {leaf} was changed"
    assert int(state["step"]) == STEPS
    for leaf, p in flatten(params).items():
        expected = tensors[leaf].detach().numpy()
        assert p.dtype == dtype
        assert np.max(np.abs(p - expected) / np.maximum(1, np.abs(expected))) <= tol, leaf


@pytest.mark.parametrize("name", RULES)
def test_scale_threads_and_strides_change_nothing(name):
    """A scale multiplies the gradient; threads and memory order leave every bit as it is."""
    rule, _, settings = RULES[name]
    optimizer = rule(lr=0.1, **settings)
    results = []
    with WorkerPool(3) as pool:
        for scale, threads in ((1.0, None), (0.5, None), (0.5, pool)):
            rng = np.random.default_rng(4)
            params = nest(rng, np.float32)
            state = optimizer.init(params)
            for _ in range(3):
                grads = map_leaves(lambda g, s=scale: g * np.float32(1 / s), nest(rng, np.float32))
                grads["cube"] = np.moveaxis(np.moveaxis(grads["cube"], 0, 2).copy(), 2, 0)
                optimizer.update(params, grads, state, scale=scale, pool=threads)
            results.append(flatten(params) | {f"state.{k}": v for k, v in flatten(state).items()})
    for other in results[1:]:
        for leaf, expected in results[0].items():
            assert np.array_equal(other[leaf], expected), leaf


def test_decay_of_adamw_is_on_matrices_only():
    params = {"weight": np.ones((2, 3)), "bias": np.ones(3), "scale": np.ones(())}
    optimizer = AdamW(lr=0.1, weight_decay=0.5)
    state = optimizer.init(params)
    optimizer.update(params, map_leaves(np.zeros_like, params), state)
    assert np.all(params["weight"] == 0.95)
    assert np.all(params["bias"] == 1)
    assert params["scale"] == 1


def test_wrong_gradients_and_settings_are_named():
    params = {"a": np.ones(3), "b": np.ones(2)}
    optimizer = SGD(0.1)
    state = optimizer.init(params)
    with pytest.raises(ValueError, match=r"missing \['b'\], not expected \['c'\]"):
        optimizer.update(params, {"a": np.ones(3), "c": np.ones(2)}, state)
    with pytest.raises(ValueError, match=r"gradient of b must have shape \(2,\), got \(3,\)"):
        optimizer.update(params, {"a": np.ones(3), "b": np.ones(3)}, state)
    assert np.all(params["a"] == 1)
    assert state["step"] == 0
    for make, message in (
        (lambda: SGD(-1), "lr must be at least 0, got -1"),
        (lambda: SGD(0.1, momentum=1), r"momentum must be in \[0, 1\), got 1"),
        (lambda: SGD(0.1, nesterov=True), "nesterov=True needs a momentum"),
        (lambda: AdamW(betas=(0.9, 1.0)), "beta2 must be"),
        (lambda: Adam(weight_decay=float("nan")), "weight_decay must be at least 0, got nan"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
