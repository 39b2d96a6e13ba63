"""The peers' side of `minillm bench classical`: text to ids by tiktoken and Hugging Face.

With more than one thread tiktoken encodes its batches by as many. It keeps no words, so that cold
and warm are the same to it.
"""

import os
import tempfile
from pathlib import Path

from minillm.bench.classical_ours_bpe_encode import cut, train
from minillm.bench.classical_ours_bpe_train import library_texts

__all__ = ["hugging_face", "tiktoken_cold", "tiktoken_warm"]

# tiktoken's own, faster way to write GPT-2's pattern (openai_public.py); cl100k's is as in ours
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"


def tiktoken_warm(threads, *, size, megabytes, n_merges, pattern):
    encoding = _tiktoken(n_merges, pattern)
    texts, pieces = cut(size, megabytes)
    return _tiktoken_work(encoding, texts, threads), pieces


def tiktoken_cold(threads, *, megabytes, n_merges, pattern):
    encoding = _tiktoken(n_merges, pattern)
    texts = library_texts(megabytes)
    pieces = sum(len(text.encode()) for text in texts) / 1e6
    return _tiktoken_work(encoding, texts, threads), pieces


def hugging_face(threads, *, size, megabytes, n_merges, pattern):
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # which is read when the library is loaded
    from tokenizers import Tokenizer

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        train(n_merges, pattern).save(path)
        tokenizer = Tokenizer.from_file(str(path))
    texts, pieces = cut(size, megabytes)
    if threads > 1:
        return lambda: tokenizer.encode_batch(texts), pieces
    return lambda: [tokenizer.encode(text) for text in texts], pieces


def _tiktoken(n_merges, pattern):
    import tiktoken

    from minillm.tokenizers.pretokenize import PATTERNS

    return tiktoken.Encoding(
        pattern,
        pat_str=GPT2 if pattern == "gpt2" else PATTERNS[pattern],
        mergeable_ranks=train(n_merges, pattern).vocabulary,
        special_tokens={},
    )


def _tiktoken_work(encoding, texts, threads):
    if threads > 1:
        return lambda: encoding.encode_ordinary_batch(texts, num_threads=threads)
    return lambda: [encoding.encode_ordinary(text) for text in texts]
