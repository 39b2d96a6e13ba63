"""The peer's side of `minillm bench classical`: Hugging Face's trainer of byte-level BPE."""

import os

from minillm.bench.classical_ours_bpe_train import library_texts

__all__ = ["bpe_train"]


def bpe_train(threads, *, megabytes, n_merges):
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # which is read when the library is loaded
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    texts = library_texts(megabytes)

    def work():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=len(alphabet) + n_merges, initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        assert tokenizer.get_vocab_size() == len(alphabet) + n_merges

    return work, 1
