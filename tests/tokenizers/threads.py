"""Threads that share a tokenizer and take turns as often as Python lets them."""

import sys
import threading


def wrong_in_threads(tokenizer, texts, expected, rng):
    """Encode the texts in four threads, in orders of their own; those whose ids are not expected.

    The texts are encoded once more at the end, when what the threads left behind is all there is.
    """
    wrong = []

    def work(order):
        for i in order:
            if tokenizer.encode(texts[i]).tolist() != expected[i]:
                wrong.append(int(i))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        orders = [rng.permutation(len(texts)) for _ in range(4)]
        threads = [threading.Thread(target=work, args=(order,)) for order in orders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    work(range(len(texts)))
    return wrong
