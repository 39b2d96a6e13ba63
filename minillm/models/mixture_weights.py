"""The weights of a mixture of models, from text that none of them was trained on.

Linear: EM (Jelinek & Mercer 1980; Dempster, Laird & Rubin 1977). The likelihood is concave in the
weights, so that its only maximum is found. Log-linear: Newton's method; the likelihood of a
log-linear model is concave too, its gradient the difference between what was observed and what is
expected, its second derivative minus a covariance.
"""

import numpy as np

from minillm.errors import UserError
from minillm.models.next_token import distributions
from minillm.tokenizers.base import check_ids

__all__ = ["em", "linear_weights", "log_linear_weights", "newton"]

STEPS, ENOUGH = 1000, 1e-9  # iterations at most; nats a token that a further one must bring
NUMBERS = 1 << 26  # log p kept for the log-linear fit, half a gigabyte


def linear_weights(models, held_out):
    """Weights (K,) that sum to 1, and notes.

    Raises
    ------
    UserError
        if there are no tokens, or none that any model thinks possible.
    """
    ids = _checked(models, held_out)
    p = np.exp(-np.stack([m.score(ids)[0] for m in models], axis=1))  # (T, K)
    possible = p.max(1) > 0
    if not possible.any():
        raise UserError("no token of the held-out text is possible to any of the models")
    notes = []
    if not possible.all():
        first = int(np.argmin(possible))
        notes.append(
            f"{np.count_nonzero(~possible)} held-out tokens are impossible to every model, "
            f"the first at position {first}: left out"
        )
    return em(p[possible])[0], notes


def em(p):
    """The weights that maximise the mean of log(p @ weights), and what it was at each step.

    Equation: l_i <- mean over t of l_i p_i(t) / sum over j of l_j p_j(t)

    p : (T, K), of each token to each model
    """
    weights, before = np.full(p.shape[1], 1 / p.shape[1]), []
    for _ in range(STEPS):
        mixed = p @ weights  # (T,)
        before.append(float(np.log(mixed).mean()))
        if len(before) > 1 and before[-1] - before[-2] < ENOUGH:
            break
        weights = weights * (p / mixed[:, None]).mean(0)
        weights /= weights.sum()
    return weights, before


def log_linear_weights(models, held_out):
    """Weights (K,) >= 0, and notes: the fit keeps whole distributions, so the text may be cut.

    Raises
    ------
    UserError
        if there are no tokens, or one that a model thinks impossible.
    """
    ids = _checked(models, held_out)
    limit = max(1, NUMBERS // (len(models) * models[0].vocab_size))
    notes = []
    if len(ids) > limit:
        notes.append(f"weights found on the first {limit} of {len(ids)} held-out tokens")
        ids = ids[:limit]
    p = [np.concatenate(list(distributions(m, ids))) for m in models]
    with np.errstate(divide="ignore"):
        log_p = np.log(np.stack(p, axis=2))  # (T, V, K)
    for i in range(len(models)):
        if np.isneginf(log_p[:, :, i]).any():
            t, token = np.argwhere(np.isneginf(log_p[:, :, i]))[0]
            raise UserError(
                f"model {i} of the mixture thinks token {token} impossible at position {t}: "
                "log-linear weights are found for models to which nothing is"
            )
    return newton(log_p, ids)[0], notes


def newton(log_p, ids):
    """The weights >= 0 that maximise the mean log-likelihood, and what that was at each step.

    Equation: gradient_i = mean over t of log p_i(ids_t) - E_t[log p_i], with E_t the expectation
    under the mixture; Hessian_ij = -mean over t of Cov_t(log p_i, log p_j)

    A weight that would become negative stays at 0; a step that does not help is halved.

    Parameters
    ----------
    log_p : (T, V, K), finite
    ids : (T,)
    """
    weights = np.full(log_p.shape[2], 1 / log_p.shape[2])
    value, gradient, hessian = _likelihood(log_p, ids, weights)
    values = [value]
    for _ in range(STEPS):
        free = (weights > 0) | (gradient > 0)
        change = np.zeros_like(weights)
        change[free] = np.linalg.lstsq(-hessian[np.ix_(free, free)], gradient[free], rcond=None)[0]
        size = 1.0
        while size > 1e-6:
            tried = np.maximum(weights + size * change, 0)
            found = _likelihood(log_p, ids, tried)
            if found[0] > values[-1]:
                break
            size /= 2
        else:
            break
        weights, (value, gradient, hessian) = tried, found
        values.append(value)
        if values[-1] - values[-2] < ENOUGH:
            break
    return weights, values


def _likelihood(log_p, ids, weights):
    """The mean log-likelihood, its gradient (K,) and second derivative (K, K), in blocks of T."""
    k = len(weights)
    total, gradient, hessian = 0.0, np.zeros(k), np.zeros((k, k))
    size = max(1, (1 << 20) // log_p.shape[1])
    for begin in range(0, len(ids), size):
        part = log_p[begin : begin + size]  # (n, V, K)
        z = part @ weights  # (n, V)
        top = z.max(1, keepdims=True)
        p = np.exp(z - top)
        norm = p.sum(1, keepdims=True)
        p /= norm
        rows, target = np.arange(len(part)), ids[begin : begin + size]
        total += float((z - top - np.log(norm))[rows, target].sum())
        mean = np.einsum("tv,tvk->tk", p, part)  # (n, K)
        gradient += (part[rows, target] - mean).sum(0)
        hessian -= np.einsum("tv,tvi,tvj->ij", p, part, part, optimize=True) - mean.T @ mean
    n = len(ids)
    return total / n, gradient / n, hessian / n


def _checked(models, held_out):
    ids = check_ids(held_out, models[0].vocab_size)
    if len(ids) == 0:
        raise UserError("there is no held-out text to find the weights on")
    return ids
