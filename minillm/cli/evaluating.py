"""What `minillm eval` does once its command line is understood."""

from minillm.cli.runs import load_run
from minillm.data import load_corpus, split_documents
from minillm.errors import UserError
from minillm.metrics import evaluate
from minillm.training.run_file import read_run

__all__ = ["score"]


def score(run, data, part, split):
    """Print how well a RUN predicts a part of a text."""
    model, folder = load_run(run)
    found = read_run(run)
    saved = {} if found is None else found[1]
    given = bool(data)
    data = list(data or saved.get("data", ()))
    if not data:
        raise UserError(f"{run} does not say what it was trained on: name a text with --data")
    corpus = load_corpus(data[0] if len(data) == 1 else data)
    fractions = split or saved.get("split") or (0.8, 0.1, 0.1)
    parts = split_documents(corpus.documents, fractions)
    if part is None:
        part = "all" if given else "test" if parts.test else "validation"
    documents = corpus.documents if part == "all" else getattr(parts, part)
    if not documents:
        raise UserError(f"the {part} part is empty: {corpus}, split by {tuple(fractions)}")
    evaluation = evaluate(model, documents)
    characters = sum(len(d.text) for d in documents)
    print(f"{model.kind} from {folder}, {model.n_parameters:,} parameters")
    print(f"{part} of {corpus.description}: {len(documents)} documents, {characters:,} characters")
    print(evaluation)
    unknown = sum(model.tokenizer.unknown_bytes(d.text) for d in documents)
    if unknown:
        print(f"{unknown:,} bytes are of characters that the model has never seen: 8 bits each")
