"""How the optimiser is called, and how a model is trained."""

import numpy as np


def optimised(modules, kept, case):
    """The parameters after some updates in a row; with "reading" also the gradients afterwards."""
    rule = getattr(modules("adam"), case.get("rule", "Adam"))(**case["settings"])
    params = {name: p.copy() for name, p in case["params"].items()}
    state = rule.init(params)
    for grads, rate in zip(case["grads"], case["rates"], strict=False):
        rule.update(params, grads, state, rate)
    return {"params": params} | ({"grads": case["grads"]} if case.get("reading") else {})


def trained(modules, kept, case):
    """The parameters of a small GPT after training on a text."""
    gpt, adam = modules("gpt"), modules("adam")
    config = gpt.GPTConfig(**case["model"])
    rng = np.random.default_rng(case["seed"])
    params = gpt.init(config, rng)
    rule = adam.Adam(case["lr"], betas=(0.9, 0.99))
    state = rule.init(params)
    text, steps, window = case["text"], case["steps"], np.arange(config.block_size)
    for step in range(steps):
        starts = rng.integers(0, len(text) - config.block_size - 1, case["batch"])
        rows = starts[:, None] + window
        loss, cache = gpt.gpt_loss(params, ids=text[rows], targets=text[rows + 1], config=config)
        grads = gpt.gpt_loss.backward(loss.dtype.type(1), cache)
        rate = case["lr"] * min(1, (step + 1) / 20) * (1 - step / steps)
        rule.update(params, grads, state, rate)
    return params
