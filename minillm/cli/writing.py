"""What `minillm generate` does once its command line is understood."""

import sys

from minillm.cli.decoding import decoded
from minillm.cli.runs import load_run
from minillm.errors import UserError
from minillm.generation import beam_search
from minillm.generation import stream as stream_tokens
from minillm.models.language_model import encode_prompt

__all__ = ["search", "text_pieces", "write"]

SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


def write(run, prompt, streaming, given):
    """Print a prompt and its continuation, token by token where `streaming`."""
    if given["length_penalty"] is not None:
        raise UserError("--length-penalty is for --beams")
    if given["seed"] < 0:
        raise UserError(f"seed must be at least 0, got {given['seed']}")
    model, _ = load_run(run)
    ids = encode_prompt(model.tokenizer, prompt)
    new = stream_tokens(
        model,
        ids,
        max_new_tokens=given["max_new_tokens"],
        greedy=given["greedy"],
        rng=given["seed"],
        stop_id=model.tokenizer.end_id if given["stop"] else None,
        **{name: given[name] for name in SAMPLING if given[name] is not None},
    )
    if streaming is None:
        streaming = sys.stdout.isatty()
    pieces = text_pieces(model.tokenizer, new, ids)
    if streaming:
        print(prompt, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print()
    else:
        print(prompt + "".join(pieces))


def search(run, prompt, beams, given):
    """Print a prompt and the best continuation that a beam search finds."""
    drawing = [name for name in (*SAMPLING, "greedy") if given[name] not in (None, False)]
    if drawing:
        flag = "--" + drawing[0].replace("_", "-")
        raise UserError(f"--beams searches and does not draw: it takes no {flag}")
    model, _ = load_run(run)
    penalty = given["length_penalty"]
    ids = encode_prompt(model.tokenizer, prompt)
    found = beam_search(
        model,
        ids,
        beams=beams,
        max_new_tokens=given["max_new_tokens"],
        stop_id=model.tokenizer.end_id if given["stop"] else None,
        **({} if penalty is None else {"length_penalty": penalty}),
    )
    print(prompt + "".join(decoded(model.tokenizer, [found[0][0]] if found else (), before=ids)))


def text_pieces(tokenizer, ids, before=()):
    """The text of ids that follow those of `before`, piece by piece; none is empty."""
    for text in decoded(tokenizer, ([token] for token in ids), before=before):
        if text:
            yield text
