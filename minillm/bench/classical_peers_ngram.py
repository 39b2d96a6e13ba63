"""The peers' side of `minillm bench classical`: n-gram models by NLTK and KenLM."""

import os
import subprocess
import tempfile
from pathlib import Path

from minillm.bench.classical_ours_ngram import lines_of_code, lines_of_help, text_file
from minillm.models.ngram_arpa import write_arpa
from minillm.models.ngram_text import train_on_lines

__all__ = ["kenlm_score", "lmplz_train", "nltk_train"]


def nltk_train(threads, *, order, tokens):
    """NLTK's interpolated Kneser-Ney, which has one discount, from words already split."""
    from nltk.lm import KneserNeyInterpolated
    from nltk.lm.preprocessing import padded_everygram_pipeline

    sentences = [line.split() for line in lines_of_code(tokens)]

    def work():
        grams, vocabulary = padded_everygram_pipeline(order, sentences)
        model = KneserNeyInterpolated(order)
        model.fit(grams, vocabulary)

    return work, 1


def lmplz_train(threads, *, order, tokens, lmplz, memory, output="arpa"):
    """KenLM's lmplz, from a file; what it writes is thrown away, or is in its own binary format.

    lmplz : path of the program
    memory : its --memory; the usual 80 % of the machine's takes up to twice the time
    output : "arpa" or "intermediate"
    """
    path = text_file(tokens)
    written = ["--arpa", os.devnull]
    if output == "intermediate":
        written = ["--intermediate", str(path.parent / "model")]
    command = [lmplz, "-o", str(order), "-S", memory, "--text", str(path), *written]
    command += ["-T", str(path.parent)]
    return lambda: subprocess.run(command, check=True, stderr=subprocess.DEVNULL), 1


def kenlm_score(threads, *, order, tokens):
    """Its `full_scores` of the model that we train, read from an ARPA file."""
    import kenlm

    text = "".join(f"{line}\n" for line in lines_of_code(tokens)).encode()
    ours = train_on_lines(text, order=order, compatibility="kenlm")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.arpa"
        write_arpa(ours, path)
        model = kenlm.Model(str(path))
    lines = lines_of_help()
    numbers = sum(len(line.split()) + 1 for line in lines)
    return lambda: [list(model.full_scores(line)) for line in lines], numbers
