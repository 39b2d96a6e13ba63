"""Generation one token at a time: feed the prompt, choose, feed the choice back.

It works with anything that has `start(batch) -> past` and `step(past, ids (B, n)) -> logits (B, V)`
of the token after the last of `ids`. How a token is chosen is in sampling.py.
Left out: searching over whole continuations, see beam.py.
"""

import numpy as np

from minillm.generation.checks import prompt_array
from minillm.generation.sampling import Sampling

__all__ = ["generate", "stream"]


def generate(
    model,
    prompt_ids,
    *,
    max_new_tokens,
    temperature=1.0,
    top_k=None,
    top_p=None,
    min_p=None,
    repetition_penalty=1.0,
    greedy=False,
    rng=None,
    stop_id=None,
):
    """Continue a prompt.

    Parameters
    ----------
    model : with `start`, `step` and `vocab_size`
    prompt_ids : (N,) int; empty: the model starts as at the beginning of a document
    max_new_tokens : int >= 0
    temperature, top_k, top_p, min_p, repetition_penalty, greedy : see `Sampling`
    rng : numpy Generator or a whole number to seed one; the same seed gives the same text
    stop_id : int or None, the token that ends the text

    Returns
    -------
    ids : (n,) int32, n <= max_new_tokens: the new tokens, without the prompt and without `stop_id`

    Raises
    ------
    UserError
        naming the parameter that is out of its range, or the prompt's id that is.
    """
    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty, greedy)
    new = _tokens(model, prompt_ids, max_new_tokens, sampling, rng, stop_id)
    return np.fromiter(new, dtype=np.int32)


def stream(
    model,
    prompt_ids,
    *,
    max_new_tokens,
    temperature=1.0,
    top_k=None,
    top_p=None,
    min_p=None,
    repetition_penalty=1.0,
    greedy=False,
    rng=None,
    stop_id=None,
):
    """The same tokens as `generate`, each as soon as it is chosen: an iterator of ints.

    Parameters and errors are those of `generate`; errors are raised by the call itself.
    """
    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty, greedy)
    return _tokens(model, prompt_ids, max_new_tokens, sampling, rng, stop_id)


def _tokens(model, prompt_ids, max_new_tokens, sampling, rng, stop_id):
    """Check what came, then hand over to the loop."""
    prompt = prompt_array(model, prompt_ids, max_new_tokens)
    if not isinstance(rng, np.random.Generator):
        rng = np.random.default_rng(rng)
    return _loop(model, prompt, max_new_tokens, sampling, rng, stop_id)


def _loop(model, prompt, max_new_tokens, sampling, rng, stop_id):
    text = np.empty(prompt.size + max_new_tokens, np.int32)  # all the ids so far
    text[: prompt.size] = prompt
    past, fed = model.start(1), 0
    for end in range(prompt.size, text.size):
        logits = model.step(past, text[None, fed:end])[0]  # (V,)
        token = sampling.choose(logits, text[:end], rng)
        if token == stop_id:
            return
        yield token
        text[end], fed = token, end
