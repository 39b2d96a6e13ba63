"""The gradient of one update: micro-steps in turn, each batch in shards over the threads.

Nothing here changes the parameters. A model's module offers `loss(params, *, ids, targets, config,
rng)`, an op that returns the mean loss in nats per token; with `STATEFUL = True` it takes `state`
too and returns (loss, state).
"""

import dataclasses
from typing import Any

import numpy as np

from minillm.ops._state import device
from minillm.training.parallel import reduce_gradients, shard
from minillm.tree import map_leaves

__all__ = ["StepResult", "join_states", "loss_and_gradients", "mean_loss", "split_state"]

IGNORED = -100  # the target that does not count, as in cross_entropy
BATCH_AXIS = 1  # of a recurrent state's leaves, (L, B, K)


@dataclasses.dataclass
class StepResult:
    """loss: nats per token, a float; grads: a nest; states: one for each shard; tokens: counted."""

    loss: float
    grads: Any
    states: list
    tokens: int


def loss_and_gradients(module, params, config, batches, *, pool, seed, first, states=None):
    """The mean loss over all the batches' tokens, and its gradient.

    Parameters
    ----------
    module : the model's module
    params : nest, only read
    config : the model's Config
    batches : list of (ids (B, T), targets (B, T), restarts bool), the micro-steps of one update
    pool : WorkerPool
    seed : int
    first : int, the running number of the first micro-step. Shard s of micro-step m draws its
        dropout from SeedSequence([seed, m, 1 + s]); [seed, m, 0] is the batch's own.
    states : list of a recurrent model's states, one for each shard, or None

    Returns
    -------
    StepResult
    """
    tokens = sum(_count(targets) for _, targets, _ in batches)
    loss, grads = 0.0, None
    for number, (ids, targets, restarts) in enumerate(batches, start=first):
        jobs = _jobs(ids, targets, None if restarts else states, pool)
        for index, job in enumerate(jobs):
            job["rng"] = np.random.default_rng(np.random.SeedSequence([seed, number, 1 + index]))

        def work(job):
            return _run_shard(module, params, config, backward=True, **job)

        shards = pool.map(work, jobs)
        weights = [job["tokens"] / max(1, tokens) for job in jobs]
        loss += sum(w * one for w, (one, _, _) in zip(weights, shards, strict=True))
        parts = [part for _, _, part in shards]
        if grads is not None:
            parts, weights = [grads, *parts], [1.0, *weights]
        grads = reduce_gradients(parts, weights, pool=pool)
        states = [state for _, state, _ in shards]
    return StepResult(loss, grads, states, tokens)


def mean_loss(module, params, config, batches, *, pool):
    """The mean loss over all the batches' tokens, without dropout and without gradients."""
    total, tokens, states = 0.0, 0, None
    for ids, targets, restarts in batches:
        jobs = _jobs(ids, targets, None if restarts else states, pool)

        def work(job):
            return _run_shard(module, params, config, backward=False, **job)

        shards = pool.map(work, jobs)
        for job, (loss, _, _) in zip(jobs, shards, strict=True):
            total += loss * job["tokens"]
        tokens += _count(targets)
        states = [state for _, state, _ in shards]
    return total / max(1, tokens)


def split_state(state, threads):
    """A recurrent state for the whole batch as one for each shard."""
    if state is None:
        return None
    n_shards = len(shard(_first_leaf(state).swapaxes(0, BATCH_AXIS), threads))
    return [
        map_leaves(lambda a, i=i: np.array_split(a, n_shards, BATCH_AXIS)[i].copy(), state)
        for i in range(n_shards)
    ]


def join_states(states):
    """The inverse of `split_state`."""
    if states is None or any(state is None for state in states):
        return None
    return map_leaves(lambda *parts: np.concatenate(parts, BATCH_AXIS), *states)


def _jobs(ids, targets, states, pool):
    ids, targets = shard(ids, pool.threads), shard(targets, pool.threads)
    states = states or [None] * len(ids)
    put = device().put
    return [
        {"ids": put(i), "targets": put(t), "tokens": _count(t), "state": s}
        for i, t, s in zip(ids, targets, states, strict=True)
    ]


def _run_shard(module, params, config, *, ids, targets, tokens, state, rng=None, backward):
    """One shard, on one thread: (loss, state, grads)."""
    more = {"state": state} if module.STATEFUL else {}
    # A diverging loss is found and reported by the trainer, once, rather than warned of from here.
    with np.errstate(all="ignore"):
        out, cache = module.loss(params, ids=ids, targets=targets, config=config, rng=rng, **more)
        loss, state = out if module.STATEFUL else (out, None)
        if not backward:
            return float(loss), state, None
        dloss = loss.dtype.type(1)
        grads = module.loss.backward((dloss, None) if module.STATEFUL else dloss, cache)
    return float(loss), state, grads


def _count(targets):
    return int(np.count_nonzero(targets != IGNORED))


def _first_leaf(tree):
    while isinstance(tree, dict | list | tuple):
        tree = next(iter(tree.values() if isinstance(tree, dict) else tree))
    return tree
