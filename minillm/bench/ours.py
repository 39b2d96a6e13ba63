"""Our side of `minillm bench cpu`: each function returns the work and how many pieces it makes."""

import numpy as np

from minillm.models import gpt, recurrent
from minillm.models.gpt_huggingface import load_huggingface
from minillm.optim import AdamW
from minillm.training.parallel import WorkerPool
from minillm.training.step import loss_and_gradients


def gemm(threads, *, size):
    """One matrix product, the machine's measure: all threads in one BLAS call."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, size, size), dtype=np.float32)
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out), 1


def gpt_step(threads, *, vocab_size, block_size, n_layer, n_head, n_embd, batch):
    """Forward, backward and AdamW, on random ids and targets, new ones each time."""
    config = gpt.GPTConfig(vocab_size, block_size, n_layer, n_head, n_embd)
    return _step(gpt, config, threads, batch, block_size)


def lstm_step(threads, *, vocab_size, block, n_hidden, n_layer, batch):
    config = recurrent.RecurrentConfig(vocab_size, "lstm", n_hidden, n_hidden, n_layer)
    return _step(recurrent, config, threads, batch, block)


def _step(module, config, threads, batch, block):
    rng = np.random.default_rng(0)
    params = module.init(config, rng)
    optimizer = AdamW(1e-4)
    state = optimizer.init(params)
    pool = WorkerPool(threads).__enter__()  # for the life of the process

    def work():
        ids, targets = rng.integers(0, config.vocab_size, (2, batch, block))
        result = loss_and_gradients(
            module, params, config, [(ids, targets, True)], pool=pool, seed=0, first=0
        )
        optimizer.update(params, result.grads, state, pool=pool)

    return work, 1


def generate(threads, *, folder, prompt, new_tokens):
    """Greedy generation with the key/value store; seconds a token."""
    params, config = load_huggingface(folder)

    def work():
        past = gpt.start(params, config, 1)
        ids = np.array([prompt])
        for _ in range(new_tokens):
            logits = gpt.step(params, past, ids=ids, config=config)
            ids = logits.argmax(-1)[:, None]

    return work, new_tokens
