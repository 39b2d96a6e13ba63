"""A GPT's training step on the active backend, timed."""

import time

import numpy as np

from minillm.cores import available_cores
from minillm.errors import UserError
from minillm.models import gpt
from minillm.ops._state import current, device
from minillm.optim import AdamW
from minillm.training.parallel import WorkerPool
from minillm.training.step import loss_and_gradients
from minillm.tree import leaves

__all__ = ["run"]


def run(*, vocab, block, batch, n_layer, n_head, n_embd, rounds):
    """Time forward, backward and AdamW on random ids, new ones each time.

    Returns
    -------
    line : str, the best and the median of the rounds, after one that is not counted

    Raises
    ------
    UserError
        for sizes that make no GPT.
    """
    try:
        config = gpt.GPTConfig(vocab, block, n_layer, n_head, n_embd)
    except ValueError as error:
        raise UserError(str(error)) from None
    rng, place = np.random.default_rng(0), device()
    params = place.put(gpt.init(config, rng))
    rule = AdamW(1e-4)
    optimizer, state = place.optimizer(rule), place.put(rule.init(params))
    times = []
    with WorkerPool(place.threads or available_cores()) as pool:
        for _ in range(rounds + 1):
            ids, targets = rng.integers(0, vocab, (2, batch, block))
            began = time.perf_counter()
            result = loss_and_gradients(
                gpt, params, config, [(ids, targets, True)], pool=pool, seed=0, first=0
            )
            optimizer.update(params, result.grads, state, pool=pool)
            optimizer.global_norm({"last": next(leaves(params))[1]})  # waits for a GPU to be done
            times.append(time.perf_counter() - began)
    best, median = min(times[1:]), float(np.median(times[1:]))
    count = sum(p.size for _, p in leaves(params))
    return (
        f"{current().backend}: {count:,} parameters, {batch} x {block} tokens: "
        f"{best * 1e3:.4g} ms a step at best, {median * 1e3:.4g} ms the median of {rounds}; "
        f"{batch * block / best:,.0f} tokens a second"
    )
