"""Whether a second system is better than a first, as `minillm score --compare` tells it."""

import dataclasses
import itertools

import numpy as np

from minillm.cli.progress import showing
from minillm.metrics import paired_bootstrap

__all__ = ["compare_systems"]


def compare_systems(measure, systems, names, resampling):
    """Print a comparison for each number that the metric has; returns what JSON tells of them."""
    resampling = dict(resampling)
    seed = resampling.pop("seed", 12345)
    first, second = (measure.samples(system) for system in systems)
    told = {}
    for name in first:
        rng = np.random.default_rng(seed)
        samples = resampling.get("samples", 1000)
        with showing(f"samples of {name}") as progress:
            pair = _counting(first[name], progress, samples), second[name]
            if measure.lower_is_better:
                found = _turned(paired_bootstrap(*pair[::-1], measure.n, rng=rng, **resampling))
            else:
                found = paired_bootstrap(*pair, measure.n, rng=rng, **resampling)
        less = " (less is better)" if measure.lower_is_better else ""
        said = _in_words(found)
        print(f"{name} of {names[1]} beside {names[0]}{less}: {said} (seed {seed})")
        told[name] = dataclasses.asdict(found)
    return told


def _counting(score, progress, samples):
    """A score that tells `progress` how often it was asked for."""
    if progress is None:
        return score
    calls = itertools.count()

    def counted_score(indices):
        progress(min(next(calls), samples), samples)  # the first is of all segments
        return score(indices)

    return counted_score


def _turned(found):
    """A Comparison of the second with the first, with the systems in their order; better stays.

    So `better` is the share of samples in which the second scores lower.
    """
    d = found.difference
    turned = dataclasses.replace(d, score=-d.score, mean=-d.mean, low=-d.high, high=-d.low)
    return dataclasses.replace(found, first=found.second, second=found.first, difference=turned)


def _in_words(found):
    """A Comparison as a sentence."""
    difference = found.difference
    if difference.score == difference.low == difference.high == 0:
        return f"no difference in {found.samples} samples: p means nothing here"
    better = f"better in {found.better:.1%} of {found.samples} samples"
    return f"difference {difference}, p = {found.p:.4f}; {better}"
