"""What generation refuses: parameters out of range, prompts that no model reads, broken logits."""

import math
import numbers

import numpy as np

from minillm.errors import UserError, is_whole, require

__all__ = ["is_number", "not_finite", "prompt_array"]


def is_number(value):
    """A finite real number; True and False are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def not_finite():
    """The error for logits that hold NaN or infinity."""
    return UserError("the model's logits are not finite numbers: its weights are damaged")


def prompt_array(model, prompt_ids, max_new_tokens):
    """The prompt as (N,) int32 with at least one id, checked.

    An empty prompt becomes the one token that ends a document, after which a new one begins.

    Raises
    ------
    UserError
        for a wrong `max_new_tokens`, or an id outside the model's vocabulary.
    """
    holds = is_whole(max_new_tokens) and max_new_tokens >= 0
    require("max_new_tokens", max_new_tokens, holds, "a whole number of at least 0")
    prompt = np.asarray(prompt_ids)
    if prompt.size == 0:
        prompt = np.array([model.tokenizer.end_id])
    if prompt.ndim != 1 or prompt.dtype.kind not in "iu":
        raise UserError(
            f"the prompt must be one row of token ids, got {prompt.dtype} of shape {prompt.shape}"
        )
    outside = prompt[(prompt < 0) | (prompt >= model.vocab_size)]
    if outside.size:
        known = f"the model knows ids 0 to {model.vocab_size - 1}"
        raise UserError(f"the prompt has the id {outside[0]}, but {known}")
    return prompt.astype(np.int32)
