"""What `minillm train` can be told: for each setting its type, its models and its default.

The defaults belong to the configurations in models/ and training/, and are written here again only
for --help, which imports neither; a test holds the two together.
"""

import dataclasses

import click

from minillm.cli.options import OneOf, Wholes, flag_of

__all__ = ["COUNTED", "MODELS", "SETTINGS", "TOKENIZERS", "Setting", "options"]

RECURRENT = ("rnn", "lstm", "gru")
NEURAL = ("gpt", *RECURRENT, "neural-ngram")
LAYERED = ("gpt", *RECURRENT)
COUNTED = ("ngram", "unigram", "uniform")
NGRAM = ("ngram",)
SMOOTHINGS = (
    "modified-kneser-ney",
    "kneser-ney",
    "mle",
    "add-k",
    "good-turing",
    "katz",
    "jelinek-mercer",
    "witten-bell",
    "absolute-discounting",
    "stupid-backoff",
)
TOKENIZERS = ("char", "byte", "word", "whitespace", "bpe", "wordpiece", "unigram")
WHOLES = "whole numbers"
MODELS = (*NEURAL, *COUNTED)


@dataclasses.dataclass(frozen=True)
class Setting:
    """One option: its name in the configuration, its type, the models it is for, its help."""

    name: str
    type: type | tuple[str, ...] | str  # of its value; a tuple: one of these names; or WHOLES
    models: tuple[str, ...]
    help: str
    default: object = None  # shown; None: the help says it
    also: tuple[str, ...] = ()  # other spellings of the flag


SETTINGS = {
    "The model": [
        Setting("n_layer", int, LAYERED, "Layers.", "gpt 4, others 2"),
        Setting("n_embd", int, NEURAL, "Channels: of the GPT, of the others' embedding.", 128),
        Setting("n_head", int, ("gpt",), "Attention heads.", 4),
        Setting("n_kv_head", int, ("gpt",), "Heads of keys and values. [default: --n-head]"),
        Setting("n_inner", int, ("gpt",), "Feed-forward channels. [default: 4 or 8/3 --n-embd]"),
        Setting("norm", ("layer", "rms"), ("gpt",), "Normalisation; LLaMA's is rms.", "layer"),
        Setting("mlp", ("gelu", "swiglu"), ("gpt",), "Feed-forward; LLaMA's is swiglu.", "gelu"),
        Setting(
            "position", ("learned", "rotary"), ("gpt",), "Positions; LLaMA's: rotary.", "learned"
        ),
        Setting("bias", bool, ("gpt",), "Linear layers have a bias.", True),
        Setting(
            "n_hidden", int, (*RECURRENT, "neural-ngram"), "Channels of the hidden state.", 128
        ),
        Setting("tied", bool, LAYERED, "One array embeds and predicts.", "gpt yes, others no"),
        Setting("direct", bool, ("neural-ngram",), "The embeddings score tokens too.", False),
        Setting("dropout", float, NEURAL, "Share of activations set to zero in training.", 0.0),
    ],
    "The n-gram model": [
        Setting("order", int, ("ngram", "neural-ngram"), "Tokens in the longest n-gram.", 5),
        Setting("smoothing", SMOOTHINGS, NGRAM, "Who gets what was not seen.", SMOOTHINGS[0]),
        Setting("k", float, NGRAM, "add-k: added to every count. [default: 1]"),
        Setting(
            "discount",
            float,
            NGRAM,
            "kneser-ney, absolute-discounting: taken from every count. [default: from the counts]",
        ),
        Setting("cutoff", int, NGRAM, "katz: the largest count discounted. [default: 5]"),
        Setting("factor", float, NGRAM, "stupid-backoff: for each step back. [default: 0.4]"),
        Setting("buckets", int, NGRAM, "jelinek-mercer: weights a length. [default: 1]"),
        Setting(
            "prune",
            WHOLES,
            NGRAM,
            "Leave out n-grams that occur so often or less, for each length: 0,0,1. The last holds "
            "for longer ones too. [default: none]",
        ),
        Setting(
            "compatibility",
            ("kenlm",),
            NGRAM,
            "The numbers of KenLM's lmplz; with --tokenizer whitespace --lines its whole model. "
            "[default: the textbook's]",
        ),
    ],
    "Training": [
        Setting("steps", int, NEURAL, "Updates of the weights.", 2000),
        Setting("block", int, NEURAL, "Tokens in a row; a GPT's longest context.", 64),
        Setting("batch", int, NEURAL, "Rows in a batch.", 12),
        Setting("accumulation", int, NEURAL, "Batches whose gradients make one update.", 1),
        Setting(
            "optimizer",
            ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"),
            NEURAL,
            "Update rule.",
            "adamw",
        ),
        Setting("lr", float, NEURAL, "Learning rate after the warm-up.", 1e-3),
        Setting(
            "final_lr",
            float,
            NEURAL,
            "Learning rate at the last step. [default: --lr / 10]",
            also=("--min-lr",),
        ),
        Setting("schedule", ("constant", "linear", "cosine"), NEURAL, "From --lr down.", "cosine"),
        Setting(
            "warmup", int, NEURAL, "Steps of warm-up. [default: a tenth of --steps, at most 100]"
        ),
        Setting("weight_decay", float, NEURAL, "AdamW's is on matrices only.", 0.1),
        Setting("beta1", float, NEURAL, "Of Adam and AdamW.", 0.9),
        Setting("beta2", float, NEURAL, "Of Adam and AdamW.", 0.99),
        Setting("momentum", float, NEURAL, "Of momentum and nesterov.", 0.9),
        Setting("clip", float, NEURAL, "Largest norm of the gradient, 0 for none.", 1.0),
        Setting("seed", int, MODELS, "Decides weights, data order and dropout.", 0),
    ],
    "Watching and saving": [
        Setting("eval_every", int, NEURAL, "Steps between validations, 0 for none.", 250),
        Setting("eval_batches", int, NEURAL, "Batches of a validation.", 20),
        Setting("patience", int, NEURAL, "Stop after so many validations without gain.", 0),
        Setting("max_seconds", float, NEURAL, "Stop after so long. [default: never]"),
        Setting("log_every", int, NEURAL, "Steps between lines of the log.", 10),
        Setting(
            "checkpoint_every", int, NEURAL, "Steps between checkpoints. [default: --eval-every]"
        ),
        Setting("threads", int, NEURAL, "Shards of a batch at a time. [default: all cores]"),
    ],
}


def options(command):
    """Add an option for every setting. Each is None where it was not given."""
    for setting in reversed([s for group in SETTINGS.values() for s in group]):
        command = _option(setting)(command)
    return command


def _option(setting):
    flag = flag_of(setting.name)
    text, kind, metavar = setting.help, setting.type, {int: "N", float: "X"}.get(setting.type)
    if isinstance(kind, tuple):
        text += f" One of {', '.join(kind)}."
        kind, metavar = OneOf(setting.name, kind), "NAME"
    if kind == WHOLES:
        kind, metavar = Wholes(), "N,N,..."
    if setting.models not in (NEURAL, MODELS):
        text = f"{'/'.join(setting.models)}: {text}"
    if setting.default is not None:
        shown = setting.default
        if isinstance(shown, bool):
            shown = "yes" if shown else "no"
        text += f" [default: {shown}]"
    if kind is bool:
        return click.option(f"{flag}/--no-{setting.name}", default=None, help=text)
    return click.option(flag, *setting.also, setting.name, type=kind, metavar=metavar, help=text)
