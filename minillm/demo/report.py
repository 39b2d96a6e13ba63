"""What the demo shows at its end: the table, who won, and two pictures."""

import shutil

from minillm.data.batches import encode_documents
from minillm.demo.contestants import LONG_RUN, LONG_RUN_BITS, LONG_RUN_MINUTES
from minillm.viz import (
    attention_maps,
    attention_weights,
    learning_curves,
    save,
    token_names,
)

__all__ = ["conclusion", "draw_attention", "draw_curves", "table"]

LOOKED_AT = 32  # characters in the attention map


def table(results, width=None):
    """The results as lines of text, at most `width` wide (None: the terminal's, 80 to 120)."""
    if width is None:
        width = min(max(shutil.get_terminal_size((100, 24)).columns, 80), 120)
    head = f"{'model':<12}{'bits per byte':>13}{'parameters':>12}{'seconds':>9}  "
    lines = [head + "what it writes", "-" * width]
    for r in results:
        row = f"{r.name:<12}{r.bits_per_byte:>13.3f}{r.parameters:>12,}{r.seconds:>9.1f}  "
        room = width - len(row)
        lines.append(row + (r.text if len(r.text) <= room else r.text[: room - 1] + "…"))
    return "\n".join(lines)


def conclusion(results, *, short):
    """Who predicts the test text best within this time, and what the GPT needs to."""
    first, second = sorted(results, key=lambda r: r.bits_per_byte)[:2]
    lines = [
        f"Within this time {first.name} predicts the test text best, with "
        f"{first.bits_per_byte:.3f} bits per byte; then comes {second.name} with "
        f"{second.bits_per_byte:.3f}."
    ]
    late = [r.name for r in results if r.stopped == "time"]
    if late:
        lines.append(f"Stopped by the clock before its last step: {', '.join(late)}.")
    if short:
        lines.append("These are a few steps only; the whole demo is: minillm demo")
    more = "gets further" if first.name == "gpt" else "wins"
    lines.append(
        f"With more time the GPT {more}: {LONG_RUN_BITS} when we tried, about {LONG_RUN_MINUTES} "
        "minutes on 2 cores:"
    )
    lines += [f"  {LONG_RUN}", "  minillm eval runs/gpt"]
    return "\n".join(lines)


def draw_curves(results, folder):
    """Draw the learning curves; returns (file name, what it shows).

    They begin where a model first knows more than how often each character occurs: the steep
    descent to there would leave no room for what tells the models apart.
    """
    floor = next(r.validation for r in results if r.name == "unigram")
    curves = {r.name: _below(r.curve, floor) for r in results if r.curve is not None}
    levels = {r.name: r.validation for r in results if r.name == "kneser-ney"}
    title = "Bits per byte on the validation text"
    save(learning_curves(curves, levels=levels, log_time=True, title=title), folder / "curves.png")
    return "curves.png", "the learning curves against seconds"


def _below(curve, floor):
    points = [(s, b) for s, b in zip(*curve, strict=True) if b < floor]
    return [s for s, _ in points], [b for _, b in points]


def draw_attention(gpt, documents, folder):
    """Draw where the GPT's heads look in the first test text; returns (file name, what)."""
    ids = encode_documents(documents, gpt.tokenizer)[:LOOKED_AT]
    weights = attention_weights(gpt.params, ids, gpt.config)
    figure = attention_maps(
        weights, token_names(gpt.tokenizer, ids), title="Where the GPT's heads look"
    )
    save(figure, folder / "attention.png")
    return "attention.png", "where the GPT's heads look while it reads the test text"
