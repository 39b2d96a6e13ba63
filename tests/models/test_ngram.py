import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.data import Document, encode_documents
from minillm.errors import UserError
from minillm.models import ngram
from minillm.models.ngram import NGram, NGramConfig
from minillm.models.ngram_config import NAMES
from minillm.models.ngram_kneser_ney import discounts
from minillm.models.ngram_level import Level
from minillm.tokenizers import ByteTokenizer, CharTokenizer, make_tokenizer
from tests.models.ngram_oracle import BruteForce

# A probability is a few multiplications and additions for each length of n-gram.
TOL = 100 * np.finfo(np.float64).eps
TOKENIZER = CharTokenizer("abcd")  # ids 0 to 3, the end 4, the unknown one 5
END, SIZE = TOKENIZER.end_id, TOKENIZER.vocab_size
IDS = st.lists(st.integers(0, SIZE - 2), min_size=1, max_size=60)
CHINESE = "山外有山,楼外有楼。\n山上有雪,楼上有月。\n"


def text_with_real_discounts(seed, n=1500, size=SIZE):
    """Ids whose counts are varied enough for the discounts' formula, at every length."""
    rng = np.random.default_rng(seed)
    p = 1 / np.arange(1, size) ** 1.5
    return rng.permutation(size - 1)[rng.choice(size - 1, n, p=p / p.sum())]


def assert_equals_brute_force(model, oracle, context):
    expected = np.array(oracle.distribution(context))
    found = model.next_distribution(np.array(context, int))
    assert found.shape == (model.vocab_size,)
    assert np.all(np.abs(found - expected) <= TOL * expected)


@given(ids=IDS, order=st.integers(1, 7), contexts=st.lists(st.lists(st.integers(0, SIZE - 1))))
def test_equals_the_formulas_and_sums_to_one(ids, order, contexts):
    model = NGram.train(np.array(ids), TOKENIZER, order=order)
    oracle = BruteForce(ids, order, SIZE, END)
    for context in [*contexts, [], [END], [END, END], ids, ids[: len(ids) // 2], [*ids, END]]:
        assert_equals_brute_force(model, oracle, context)
        assert abs(model.next_distribution(context).sum() - 1) <= TOL


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_equals_the_formulas_where_the_discounts_are_computed(order):
    types = 400 if order == 1 else 40  # counts of 1 to 4 must all occur
    tokenizer = CharTokenizer("".join(map(chr, range(100, 100 + types))))
    ids = text_with_real_discounts(order, size=tokenizer.end_id + 1)
    model = NGram.train(ids, tokenizer, order=order)
    oracle = BruteForce(ids.tolist(), order, tokenizer.vocab_size, tokenizer.end_id)
    assert oracle.discounts[order] != [0, 0.5, 1.0, 1.5]
    computed = [k for k, d in oracle.discounts.items() if d != [0, 0.5, 1.0, 1.5]]
    noted = [int(note.split(":")[0].split()[1]) for note in model.notes]
    assert sorted(computed + noted) == list(range(1, order + 1))
    for start in range(0, 200, 10):
        assert_equals_brute_force(model, oracle, ids[start : start + order].tolist())


def test_a_toy_by_hand():
    # One document "aab". Bigrams: <end>a, aa, ab, b<end>, each once: no counts of 2, 3 or 4, so all
    # discounts are 0.5, 1, 1.5. Before a come <end> and a, before b and <end> one token each:
    # a(a) = 2, a(b) = a(<end>) = 1, in all 4; gamma = (1 + 0.5 + 0.5) / 4, and 1/V = 1/4.
    tokenizer = CharTokenizer("ab")
    model = NGram.train(np.array([0, 0, 1, 2]), tokenizer, order=2)
    assert model.next_distribution([]).tolist() == [0.25 + 0.125, 0.25, 0.25, 0.125]
    # After a: a and b once each: (1 - 0.5) / 2 for each, gamma = (0.5 + 0.5) / 2.
    assert model.next_distribution([0]).tolist() == [0.4375, 0.375, 0.125, 0.0625]
    # After the end, as before the first token: a, once: (1 - 0.5) / 1, gamma = 0.5.
    assert model.next_distribution([2]).tolist() == [0.6875, 0.125, 0.125, 0.0625]
    assert model.next_distribution([3]).tolist() == model.next_distribution([]).tolist()
    nats, correct = model.score([0, 0, 1, 2])
    assert np.allclose(np.exp(-nats), [0.6875, 0.4375, 0.375, 0.625], rtol=TOL, atol=0)
    assert correct.tolist() == [True, True, False, True]
    assert model.n_parameters == 4 + 4


def test_discounts_by_hand():
    # n1 = 4, n2 = 2, n3 = n4 = 1: Y = 4 / (4 + 2 * 2) = 0.5
    found, fell_back = discounts([1, 4, 2, 1, 1])
    assert found == (1 - 2 * 0.5 * 2 / 4, 2 - 3 * 0.5 * 1 / 2, 3 - 4 * 0.5 * 1 / 1)
    assert not fell_back
    # without a count of 3; with so many counts of 3 that D2 = 2 - 3 * 0.5 * 4 / 2 would be negative
    for many in ([0, 2, 1, 0, 1], [0, 4, 2, 4, 1], [0, 0, 0, 0, 0]):
        assert discounts(many) == ((0.5, 1.0, 1.5), True)
    # KenLM does without a count of 4, and with a D2 = 2 - 3 * 0.5 * 4 / 3 of zero
    assert discounts([0, 4, 2, 1, 0], kenlm=True) == ((0.5, 2 - 3 * 0.5 / 2, 3), False)
    assert discounts([0, 6, 3, 4, 1], kenlm=True) == ((0.5, 0, 3 - 4 * 0.5 / 4), False)
    assert discounts([0, 6, 3, 4, 1]) == ((0.5, 1.0, 1.5), True)
    assert discounts([0, 4, 2, 4, 1], kenlm=True) == ((0.5, 1.0, 1.5), True)


@pytest.mark.parametrize(("likeliest", "seen", "best"), [(0, 1, 0), (3, 1, 1), (2, 1, 1)])
def test_of_equally_likely_tokens_the_lowest_is_best(likeliest, seen, best):
    p = np.full(4, 0.125)
    p[likeliest] = 0.625
    below = Level(np.arange(4), p, np.ones(1), 4)
    # after token 3: `seen` has 0.25 + 0.5 / 8, the likeliest of all 0.5 * 0.625, the same
    backoff = np.array([1, 1, 1, 0.5])
    level = Level(np.array([3 * 4 + seen]), np.array([0.3125]), backoff, 4, below)
    tokens, p = level.best.of(np.arange(4))
    assert tokens.tolist() == [likeliest, likeliest, likeliest, best]
    assert p.tolist() == [0.625, 0.625, 0.625, 0.3125]


@given(
    ids=st.lists(st.integers(0, SIZE - 1), max_size=80),
    order=st.integers(1, 6),
    chunk=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_score_reads_the_stream_as_next_distribution_does(ids, order, chunk, seed):
    model = NGram.train(text_with_real_discounts(seed, 300), TOKENIZER, order=order)
    nats, correct = model.score(np.array(ids, np.int32))
    rows = [model.next_distribution([END, *ids[:t]]) for t in range(len(ids))]
    assert nats.shape == correct.shape == (len(ids),)
    assert nats.dtype == np.float64
    assert correct.dtype == bool
    expected = [-np.log(row[token]) for row, token in zip(rows, ids, strict=True)]
    assert np.allclose(nats, expected, rtol=TOL, atol=TOL)
    assert correct.tolist() == [row.argmax() == t for row, t in zip(rows, ids, strict=True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngram, "CHUNK", chunk)
        assert np.array_equal(model.score(np.array(ids, int)), (nats, correct))


@given(
    order=st.integers(1, 5),
    cuts=st.lists(st.integers(1, 7), min_size=1, max_size=6),
    seed=st.integers(0, 99),
)
def test_step_continues_from_its_past(order, cuts, seed):
    model = NGram.train(text_with_real_discounts(seed, 300), TOKENIZER, order=order)
    ids = np.random.default_rng(seed).integers(0, SIZE, (3, sum(cuts)))
    past, read = model.start(3), 0
    for n in cuts:
        logits = model.step(past, ids[:, read : read + n])
        read += n
        expected = np.log([model.next_distribution(row[:read]) for row in ids])
        assert logits.shape == (3, SIZE)
        assert np.array_equal(logits, expected)
    kept = past.copy()
    swapped = model.reorder(past, np.array([2, 0, 0]))
    assert np.array_equal(swapped, kept[[2, 0, 0]])
    new = np.array([[0], [1], [2]])
    expected = [model.next_distribution(np.append(ids[r], t)) for r, t in ((2, 0), (0, 1), (0, 2))]
    assert np.array_equal(model.step(swapped, new), np.log(expected))
    assert np.array_equal(past, kept)  # a reordered past is one of its own


@pytest.mark.parametrize("kind", ["char", "byte"])
def test_longer_contexts_predict_chinese_and_english_better(kind):
    for text in (CHINESE * 3, "The hill beyond the hill is a hill too.\n" * 5):
        tokenizer = make_tokenizer(kind, text)
        ids = encode_documents([Document("1", text), Document("2", text[::-1])], tokenizer)
        totals = [NGram.train(ids, tokenizer, order=n).score(ids)[0].sum() for n in range(1, 6)]
        assert totals == sorted(totals, reverse=True)
        assert totals[-1] < totals[0] / 3


def test_the_stated_surface():
    model = NGram.train(np.array([0, 1, 0, 1, END]), TOKENIZER, order=3)
    assert (model.kind, model.block, model.vocab_size) == ("ngram", None, SIZE)
    assert model.tokenizer is TOKENIZER
    assert model.context == "up to 2 tokens before it in the same document"
    assert NGram.train(np.array([0]), TOKENIZER, order=1).context == "nothing"
    assert model.notes[0] == "length 1: counts too few for discounts, (0.5, 1.0, 1.5) taken"


def test_sampling_follows_the_distribution():
    model = NGram.train(text_with_real_discounts(3, 300), TOKENIZER, order=3)
    rng = np.random.default_rng(0)
    drawn = [model.sample(rng, n=1, context=[END])[0] for _ in range(4000)]
    share = np.bincount(drawn, minlength=SIZE) / len(drawn)
    assert np.allclose(share, model.next_distribution([END]), atol=0.03)
    # and goes on from what was drawn: pairs are as likely as the model says
    pairs = [tuple(model.sample(rng, n=2, context=[END])) for _ in range(4000)]
    expected = model.next_distribution([END])[0] * model.next_distribution([END, 0])[1]
    assert abs(pairs.count((0, 1)) / 4000 - expected) < 0.03
    assert len(model.sample(rng, n=7)) == 7
    assert len(model.sample(rng, n=0)) == 0
    holes = NGram.train(np.array([0, 1, 0, 2, END]), TOKENIZER, order=2, smoothing="mle")
    text = holes.sample(rng, n=200, context=[END])
    assert np.all(np.isfinite(holes.score(text)[0][:-1]))  # nothing impossible was drawn


def test_entropy_by_hand():
    model = NGram.train(np.array([0, 0, 1, 2]), CharTokenizer("ab"), order=2)
    p = np.array([0.4375, 0.375, 0.125, 0.0625])
    assert model.entropy([0]) == pytest.approx(-(p * np.log(p)).sum(), rel=1e-12)
    certain = NGram.train(np.array([0, 1, 0, 1, END]), TOKENIZER, order=2, smoothing="mle")
    assert certain.entropy([0]) == 0


def test_a_score_is_not_sold_as_a_probability():
    model = NGram.train(np.array([0, 1, 0, 2, END]), TOKENIZER, order=2, smoothing="stupid-backoff")
    assert not model.is_distribution
    for ask in (
        model.next_distribution,
        model.entropy,
        lambda ids: next(model.distributions(ids, 1)),
    ):
        with pytest.raises(UserError, match="stupid-backoff gives scores, not a distribution"):
            ask([0])
    nats, _ = model.score([0, 0])  # <end>0 was seen, 00 was not: 0.4 of 0's 2 in 5
    assert np.allclose(np.exp(-nats), [1, 0.4 * 2 / 5])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NGramConfig(smoothing="mle", k=1), "mle has no k: it is for add-k"),
        (
            lambda: NGramConfig(discount=0.5),
            "modified-kneser-ney has no discount: .* absolute-discounting or kneser-ney",
        ),
        (lambda: NGramConfig(smoothing="add-k", k=0), "k must be a number above 0, got 0"),
        (lambda: NGramConfig(smoothing="kneser-ney", discount=1), "between 0 and 1, got 1"),
        (lambda: NGramConfig(smoothing="katz", cutoff=1), "cutoff must be .* at least 2, got 1"),
        (lambda: NGramConfig(prune=(1,)), r"prune must .* begin with 0 .* got \(1,\)"),
        (lambda: NGramConfig(prune=(0, 2, 1)), "never fall"),
        (lambda: NGramConfig(order=2, prune=(0, 0, 1)), "at most 2 whole numbers"),
        (lambda: NGramConfig(prune=()), "prune must"),
        (lambda: NGramConfig(prune=3), r"begin with 0 .* got \(3,\)"),
        (lambda: NGramConfig(smoothing="add-k", k=float("inf")), "k must be .* got inf"),
        (lambda: NGramConfig(smoothing="kneser-ney", discount="x"), "discount must be .* got 'x'"),
        (lambda: NGramConfig(smoothing="jelinek-mercer", weights=3), "weights must be .* got 3"),
        (lambda: NGram.train([0], TOKENIZER, width=3), "ngram has no setting 'width'; there are: "),
        (lambda: NGramConfig(prune=(0, 0.5)), "prune must be a whole number"),
        (lambda: NGramConfig(compatibility="srilm"), "compatibility must be kenlm, got 'srilm'"),
        (
            lambda: NGramConfig(smoothing="jelinek-mercer", order=2, weights=((0.5,),)),
            "weights must be 2 times 1 numbers",
        ),
        (
            lambda: NGramConfig(smoothing="jelinek-mercer", order=1, weights=((1.0,),)),
            r"numbers in \[0, 1\)",
        ),
        (lambda: NGram.train([0], TOKENIZER, smoothing="given"), "read, not counted"),
        (lambda: NGram(NGramConfig(order=2), TOKENIZER, []), "as many levels: 0"),
        (lambda: NGram.train([], TOKENIZER), "no text to count"),
        (lambda: NGram.train([0, SIZE], TOKENIZER), rf"\[0, {SIZE}\), got {SIZE} at position 1"),
        (lambda: NGramConfig(order=True), "order must be .* got True"),
        (lambda: NGramConfig(order=np.float64(2)), "order must be .* got "),
        (lambda: NGramConfig(smoothing="add-k", k=np.bool_(True)), "k must be .* got "),
        (
            lambda: NGram.train(
                [0], TOKENIZER, order=1, smoothing="jelinek-mercer", weights=[[0.5]], held_out=[0]
            ),
            "jelinek-mercer has no held_out: it is for jelinek-mercer without weights",
        ),
        (lambda: NGram.train([0], TOKENIZER, order=0), "order must be .* at least 1, got 0"),
        (
            lambda: NGramConfig(smoothing="none"),
            "smoothing must be mle, .* or given, got 'none'",
        ),
        (lambda: trained().score([0.5]), "1-D integers, got float64"),
        (lambda: trained().score([-1]), "got -1 at position 0"),
        (lambda: trained().next_distribution([SIZE]), f"got {SIZE}"),
        (
            lambda: trained().step(trained().start(2), [[0]]),
            r"shape \(2, n\), n >= 1, got \(1, 1\)",
        ),
        (lambda: trained().step(trained().start(), np.empty((1, 0), int)), r"got \(1, 0\)"),
        (lambda: trained().step(trained().start(), [[SIZE]]), f"got {SIZE}"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_numpy_s_numbers_are_numbers(tmp_path):
    given_ = {
        "add-k": {"k": np.float32(0.5)},
        "katz": {"cutoff": np.int8(3), "prune": (np.int64(0), np.uint8(1))},
        "jelinek-mercer": {"buckets": np.int64(2)},
    }
    for name, some in given_.items():
        plain = {k: tuple(map(int, v)) if k == "prune" else v.item() for k, v in some.items()}
        model = NGram.train(np.arange(4), TOKENIZER, order=np.int64(2), smoothing=name, **some)
        expected = NGram.train(np.arange(4), TOKENIZER, order=2, smoothing=name, **plain)
        assert repr(model.config) == repr(expected.config)
        model.save(tmp_path / name)  # as JSON, which knows no other numbers
        assert NGram.load(tmp_path / name).config == expected.config


@pytest.mark.parametrize("name", [name for name in NAMES if name != "jelinek-mercer"])
def test_held_out_text_that_would_be_ignored_is_refused(name):
    with pytest.raises(UserError, match=f"{name} has no held_out: it is for jelinek-mercer"):
        NGram.train([0, 1], TOKENIZER, smoothing=name, held_out=[0])


def trained(order=3, tokenizer=TOKENIZER):
    return NGram.train(np.array([0, 1, 0, 2, 1, tokenizer.end_id]), tokenizer, order=order)


@pytest.mark.parametrize("name", NAMES)
def test_every_smoothing_is_saved_and_loaded(tmp_path, name):
    ids = text_with_real_discounts(0, 200)
    model = NGram.train(ids, TOKENIZER, order=3, smoothing=name, prune=(0, 0, 1))
    model.save(tmp_path)
    loaded = NGram.load(tmp_path)
    assert loaded.config == model.config
    assert loaded.notes == model.notes
    for a, b in zip(model.score(ids), loaded.score(ids), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("order", [1, 2, 9])  # 9: longer than the text, so the last are empty
@pytest.mark.parametrize("tokenizer", [TOKENIZER, CharTokenizer("水月山雪"), ByteTokenizer()])
def test_saved_and_loaded(tmp_path, order, tokenizer):
    model = trained(order, tokenizer)
    model.save(tmp_path / "new" / "folder")
    loaded = NGram.load(tmp_path / "new" / "folder")
    ids = np.array([0, 1, 0, 2, 1, 1, tokenizer.end_id, 0])
    assert np.array_equal(loaded.score(ids), model.score(ids))
    assert loaded.config == model.config
    assert loaded.tokenizer.to_dict() == tokenizer.to_dict()
    assert loaded.n_parameters == model.n_parameters
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == [
        "model.json",
        "weights.safetensors",
    ]
