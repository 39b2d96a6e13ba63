"""What stood to choose from at each step of a generation, and what was cut away before the draw."""

import dataclasses

import numpy as np

from minillm.generation.generate import generate
from minillm.generation.sampling import (
    Sampling,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalise_repetition,
    scale_temperature,
)
from minillm.models.next_token import log_softmax
from minillm.viz.tokens import visible

__all__ = ["Candidate", "GenerationStep", "generation_steps"]


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A token that might have come.

    name : as it is shown; p : the model's probability; q : what it was drawn with, 0 if cut
    cut : "" or what cut it, such as "top-p"; drawn : whether it came
    """

    name: str
    p: float
    q: float
    cut: str
    drawn: bool


@dataclasses.dataclass(frozen=True)
class GenerationStep:
    """One token of a generation.

    id, name, p, q : of the token that came
    candidates : list of Candidate, the likeliest and the one that came, likeliest first
    kept : how many of the vocabulary's tokens could be drawn; mass: their p together
    """

    id: int
    name: str
    p: float
    q: float
    candidates: list[Candidate]
    kept: int
    mass: float


def generation_steps(model, prompt_ids, *, max_new_tokens, top, rng, stop_id, **settings):
    """Generate as `generate` does, and keep what stood to choose from.

    Parameters
    ----------
    model, prompt_ids, max_new_tokens, rng, stop_id : see generate
    top : int, how many of the likeliest tokens to keep of each step
    settings : those of Sampling

    Returns
    -------
    steps : list of GenerationStep; one more than tokens if `stop_id` came
    """
    sampling, listener = Sampling(**settings), _Listener(model)
    ids = generate(
        listener,
        prompt_ids,
        max_new_tokens=max_new_tokens,
        rng=rng,
        stop_id=stop_id,
        **settings,
    ).tolist()
    if len(ids) < len(listener.logits):
        ids.append(stop_id)
    seen = list(prompt_ids) or [model.tokenizer.end_id]
    steps = []
    for logits, chosen in zip(listener.logits, ids, strict=True):
        seen_so_far = np.asarray(seen, np.int64)
        steps.append(_step(logits, chosen, seen_so_far, sampling, top, model.tokenizer))
        seen.append(chosen)
    return steps


class _Listener:
    """A model that keeps the logits which it gave."""

    def __init__(self, model):
        self.model, self.logits = model, []
        self.tokenizer, self.vocab_size = model.tokenizer, model.vocab_size

    def start(self, batch=1):
        return self.model.start(batch)

    def step(self, past, ids):
        logits = self.model.step(past, ids)
        self.logits.append(logits[0].copy())
        return logits


def _step(logits, chosen, seen, sampling, top, tokenizer):
    p = np.exp(log_softmax(logits))  # (V,)
    q, cut = _cuts(logits, seen, sampling)
    if sampling.greedy:
        q, cut = np.zeros_like(p), np.full(p.shape, "greedy", object)
        q[chosen], cut[chosen] = 1.0, ""
    order = np.argsort(-p, kind="stable")
    shown = order[:top].tolist()
    if chosen not in shown:
        shown[-1] = chosen
    name = {i: visible(tokenizer.token_name(i)) for i in {*shown, chosen}}
    candidates = [
        Candidate(name[i], float(p[i]), float(q[i]), str(cut[i]), i == chosen) for i in shown
    ]
    kept = q > 0
    return GenerationStep(
        chosen,
        name[chosen],
        float(p[chosen]),
        float(q[chosen]),
        candidates,
        int(kept.sum()),
        float(p[kept].sum()),
    )


def _cuts(logits, seen, sampling):
    """What each token is drawn with (V,), and what cut it (V,), by the filters one by one."""
    cut = np.full(logits.shape, "", object)
    if sampling.repetition_penalty != 1:
        logits = penalise_repetition(logits, seen, sampling.repetition_penalty)
    if sampling.temperature != 1:
        logits = scale_temperature(logits, sampling.temperature)
    for name, keep, value in (
        ("top-k", keep_top_k, sampling.top_k),
        ("top-p", keep_top_p, sampling.top_p),
        ("min-p", keep_min_p, sampling.min_p),
    ):
        if value is None:
            continue
        left = keep(logits, value)
        cut[(left == -np.inf) & (logits > -np.inf)] = name
        logits = left
    return np.exp(log_softmax(logits)), cut
