"""The way down from the longest context must add up to the model's own probability."""

import numpy as np
import pytest

from minillm.errors import UserError
from minillm.models.baselines import Uniform
from minillm.models.ngram import NGram
from minillm.models.ngram_config import NAMES
from minillm.models.ngram_counts import count_ngrams
from minillm.tokenizers import CharTokenizer
from minillm.viz.backoff import back_off_figure, back_off_path, back_off_profile

TEXT = "the cat sat on the mat, and then the cat that sat there ate the hat. " * 2
TOKENIZER = CharTokenizer.train(TEXT + "qxz$")
IDS = np.append(TOKENIZER.encode(TEXT), TOKENIZER.end_id)
HELD_OUT = {"jelinek-mercer": {"held_out": TOKENIZER.encode("the hat sat on that cat")}}
CONTEXTS = ("", "t", "th", "the c", "zz", "azt", "zth", "at q")


def model(smoothing, order=4, **settings):
    settings = HELD_OUT.get(smoothing, {}) | settings
    return NGram.train(IDS, TOKENIZER, order=order, smoothing=smoothing, **settings)


def total(path):
    return sum(rung.weight * rung.own for rung in path)


@pytest.mark.parametrize("smoothing", NAMES)
def test_the_terms_sum_to_the_probability(smoothing):
    m = model(smoothing)
    for context in CONTEXTS:
        before = TOKENIZER.encode(context)
        expected = m.levels[0].p
        if len(before):
            expected = np.exp(m.step(m.start(1), before[None])[0])
        for word in "th ex$":
            token = TOKENIZER.encode(word)[0]
            path = back_off_path(m, before, token)
            assert total(path) == pytest.approx(expected[token], rel=1e-9), (context, word)
            assert path[-1].length == 0
            lengths = [rung.length for rung in path]
            assert lengths == ([len(before[-3:]) + 1, 0] if m.alone else sorted(lengths)[::-1])


@pytest.mark.parametrize("settings", [{"prune": (0, 1)}, {"order": 1}])
def test_pruned_and_shortest_models_add_up_too(settings):
    m = model("modified-kneser-ney", **settings)
    before = TOKENIZER.encode("that c")
    for token, p in enumerate(m.next_distribution(before)):
        assert total(back_off_path(m, before, token)) == pytest.approx(p, rel=1e-9)


def test_a_path_by_hand():
    tokenizer = CharTokenizer.train("ab")
    ids = np.append(tokenizer.encode("abaa"), tokenizer.end_id)
    m = NGram.train(ids, tokenizer, order=2, smoothing="witten-bell")
    counts = count_ngrams(ids, order=2, vocab_size=m.vocab_size, end_id=tokenizer.end_id)
    a, b = tokenizer.encode("ab").tolist()
    two, one, none = back_off_path(m, [a], b, counts=counts)
    # after a came b, a and the end, once each; of 5 tokens, of 3 kinds, b is one
    assert (two.count, two.total, two.followers) == (1, 3, 3)
    assert (two.own, two.passed, two.weight) == pytest.approx((1 / 6, 1 / 2, 1))
    assert (one.count, one.total, one.followers) == (1, 5, 3)
    assert (one.own, one.passed, one.weight) == pytest.approx((1 / 8, 3 / 8, 1 / 2))
    assert (none.own, none.weight) == pytest.approx((1 / m.vocab_size, 3 / 16))
    assert not any(rung.places for rung in (two, one, none))


def test_back_off_stops_where_the_n_gram_was_seen_and_interpolation_does_not():
    before, token = TOKENIZER.encode("the"), TOKENIZER.encode(" ")[0]
    katz = back_off_path(model("katz"), before, token)
    assert [rung.weight > 0 for rung in katz] == [True, False, False, False, False]
    mixed = back_off_path(model("modified-kneser-ney"), before, token)
    assert all(rung.own > 0 and rung.weight > 0 for rung in mixed)


def test_a_rare_token_counts_among_those_that_were_seen():
    text = "the cat that sat on the mat ate " * 40 + "$qxz"  # Katz's unseen tokens are as likely
    ids = np.append(TOKENIZER.encode(text), TOKENIZER.end_id)
    counts = count_ngrams(ids, order=2, vocab_size=TOKENIZER.vocab_size, end_id=TOKENIZER.end_id)
    m = NGram.train(ids, TOKENIZER, order=2, smoothing="katz")
    one = back_off_path(m, ids[:1], int(ids[1]), counts=counts)[1]
    assert one.followers == len(np.unique(ids))


def test_kneser_ney_counts_places_but_for_the_longest():
    counts = count_ngrams(IDS, order=4, vocab_size=TOKENIZER.vocab_size, end_id=TOKENIZER.end_id)
    before, token = TOKENIZER.encode("the"), TOKENIZER.encode(" ")[0]
    path = back_off_path(model("kneser-ney"), before, token, counts=counts)
    assert [rung.places for rung in path] == [False, True, True, True, False]
    assert path[0].count == TEXT.count("the ")
    assert path[1].count == len({TEXT[i - 1] for i in range(1, len(TEXT)) if TEXT[i:][:3] == "he "})
    unseen = back_off_path(model("kneser-ney"), TOKENIZER.encode("zzz"), token, counts=counts)
    assert (unseen[0].seen, unseen[0].count, unseen[0].total) == (False, 0, 0)


def test_a_document_begins_anew():
    m, before = model("kneser-ney"), TOKENIZER.encode("the")
    started = np.concatenate([before, [TOKENIZER.end_id], before[:1]])
    path = back_off_path(m, started, before[1])
    assert path[0].context == (TOKENIZER.end_id, before[0])
    assert total(path) == pytest.approx(m.next_distribution(started)[before[1]])


def test_pictures_say_what_the_path_does():
    m, before, token = model("katz"), TOKENIZER.encode("q t"), TOKENIZER.encode("h")[0]
    figure = back_off_figure(m, before, token)
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "never seen" in words
    assert "stops here" in words
    assert figure.get_suptitle().startswith("katz: p(h after q␣t)")
    bars = [patch.get_width() for patch in figure.axes[1].patches]
    assert bars == pytest.approx([0, 100, 0, 0, 0])
    assert "score" in back_off_figure(model("stupid-backoff"), before, token).get_suptitle()


def test_the_profile_shows_every_token_in_full():
    text = "the zat$"
    figure = back_off_profile(model("modified-kneser-ney"), text, title="t")
    bits, shares = ([p.get_height() for p in axes.patches] for axes in figure.axes)
    nats, _ = model("modified-kneser-ney").score(TOKENIZER.encode(text))
    np.testing.assert_allclose(np.array(bits) * np.log(2), nats)
    np.testing.assert_allclose(np.reshape(shares, (5, len(text))).sum(0), 100)
    figure.canvas.draw()
    impossible = back_off_profile(model("mle"), "zz")
    assert "∞" in [text.get_text() for text in impossible.axes[0].texts]


def test_what_has_no_path_is_refused():
    m = model("kneser-ney")
    with pytest.raises(UserError, match=r"n-gram model's, got a Uniform"):
        back_off_path(Uniform(TOKENIZER), [], 0)
    with pytest.raises(ValueError, match=f"got {m.vocab_size}"):
        back_off_path(m, [], m.vocab_size)
    with pytest.raises(UserError, match="at least one token"):
        back_off_profile(m, "")
    with pytest.raises(UserError, match="scores"):
        back_off_profile(model("stupid-backoff"), "the")
