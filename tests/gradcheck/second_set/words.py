"""Word vectors and embeddings: rows of a table that are used more than once."""

import numpy as np

from tests.gradcheck.second_set._entry import Subject, different, sigmoid


def repeated(rng, vocabulary, shape):
    """Ids with repetitions in each row, and over the rows."""
    ids = rng.integers(vocabulary, size=shape)
    ids.flat[-1] = ids.flat[0]
    ids[..., 1] = ids[..., 0]
    return ids


def embedding(table, *, ids):
    return table[ids], (table.shape, ids)


def embedding_backward(dout, cache):
    shape, ids = cache
    dtable = np.zeros(shape)
    np.add.at(dtable, ids, dout)
    return dtable


def embedding_case(rng):
    b, t, d = different(rng, 3, 3)
    return [rng.standard_normal((7, d))], {"ids": repeated(rng, 7, (b, t))}


EMBEDDING = Subject(embedding, embedding_backward, embedding_case)


@EMBEDDING.wrong("overwritten", "dtable[ids] = dout: the last of a word's places wins.")
def last_place_wins(dout, cache):
    shape, ids = cache
    dtable = np.zeros(shape)
    dtable[ids] = dout
    return dtable


@EMBEDDING.wrong(("factor", "local_derivative"), "The mean over a word's places, not their sum.")
def mean_over_places(dout, cache):
    counts = np.bincount(cache[1].ravel(), minlength=cache[0][0])
    return embedding_backward(dout, cache) / np.maximum(counts, 1)[:, None]


@EMBEDDING.wrong("wrong_step", "The ids of the next position, as the targets are.")
def ids_of_the_next_position(dout, cache):
    shape, ids = cache
    return embedding_backward(dout, (shape, np.roll(ids, -1, 1)))


def tied(table, x, *, ids):
    """Scores of all words from the embedded ids plus x, by the same table."""
    h = table[ids] + x
    return h @ table.T, (table, h, ids)


def tied_backward(dout, cache):
    table, h, ids = cache
    dh = dout @ table
    dtable = dout.T @ h
    np.add.at(dtable, ids, dh)
    return dtable, dh


def tied_case(rng):
    n, d = different(rng, 2, 3)
    table = rng.standard_normal((7, d))
    return [table, rng.standard_normal((n, d))], {"ids": repeated(rng, 7, (n,))}


TIED = Subject(tied, tied_backward, tied_case)


@TIED.wrong("overwritten", "Only the output's use of the table.")
def output_alone(dout, cache):
    table, h, _ = cache
    return dout.T @ h, dout @ table


@TIED.wrong("overwritten", "The embedding's gradient written over the output's.")
def embedding_alone(dout, cache):
    table, _, ids = cache
    dtable, dh = np.zeros_like(table), dout @ table
    np.add.at(dtable, ids, dh)
    return dtable, dh


@TIED.wrong("factor", "Halved, as the table is used twice.")
def halved_because_shared(dout, cache):
    dtable, dh = tied_backward(dout, cache)
    return dtable / 2, dh


def positions(x, table):
    """x (B, T, C) plus the first T rows of a longer table."""
    return x + table[: x.shape[1]], table.shape


def positions_backward(dout, shape):
    dtable = np.zeros(shape)
    dtable[: dout.shape[1]] = dout.sum(0)
    return dout.copy(), dtable


def positions_case(rng):
    b, t, c = different(rng, 3, 3, 6)
    return [rng.standard_normal((b, t, c)), rng.standard_normal((t + 2, c))], {}


POSITIONS = Subject(positions, positions_backward, positions_case)


@POSITIONS.wrong(("missing_sum", "overwritten"), "Only the first of the batch.")
def first_of_the_batch(dout, shape):
    dtable = np.zeros(shape)
    dtable[: dout.shape[1]] = dout[0]
    return dout.copy(), dtable


@POSITIONS.wrong("wrong_step", "Positions counted from 1 in backward.")
def counted_from_one(dout, shape):
    dtable = np.zeros(shape)
    dtable[1 : dout.shape[1] + 1] = dout.sum(0)
    return dout.copy(), dtable


@POSITIONS.wrong("factor", "The mean over the batch for the table.")
def mean_over_the_batch(dout, shape):
    dx, dtable = positions_backward(dout, shape)
    return dx, dtable / len(dout)


@POSITIONS.wrong("shape", "Only as long as the sequence, not as the table.")
def as_long_as_the_sequence(dout, shape):
    return dout.copy(), dout.sum(0)


def skip_gram(inner, outer, *, centre, context, negatives):
    """Negative sampling's loss: -log s(v u) - sum log s(-v u'), per pair."""
    v, u, un = inner[centre], outer[context], outer[negatives]
    good, bad = (v * u).sum(1), np.einsum("nd,nkd->nk", v, un)
    loss = np.logaddexp(0, -good) + np.logaddexp(0, bad).sum(1)
    return loss, (inner.shape, v, u, un, good, bad, centre, context, negatives)


def skip_gram_parts(dout, cache):
    _, v, u, un, good, bad, *_ = cache
    dgood, dbad = -dout * sigmoid(-good), dout[:, None] * sigmoid(bad)
    dv = dgood[:, None] * u, np.einsum("nk,nkd->nd", dbad, un)
    return dv, dgood[:, None] * v, dbad[..., None] * v[:, None]


def skip_gram_tables(dv, du, dun, cache):
    shape, *_, centre, context, negatives = cache
    dinner, douter = np.zeros(shape), np.zeros(shape)
    np.add.at(dinner, centre, dv)
    np.add.at(douter, context, du)
    np.add.at(douter, negatives, dun)
    return dinner, douter


def skip_gram_backward(dout, cache):
    dv, du, dun = skip_gram_parts(dout, cache)
    return skip_gram_tables(dv[0] + dv[1], du, dun, cache)


def skip_gram_case(rng):
    n, k, d = different(rng, 3, 3)
    ids = {"centre": repeated(rng, 8, (n,)), "context": rng.integers(8, size=n)}
    ids["negatives"] = repeated(rng, 8, (n, k))
    return [rng.standard_normal((8, d)), rng.standard_normal((8, d))], ids


SKIP_GRAM = Subject(skip_gram, skip_gram_backward, skip_gram_case)


@SKIP_GRAM.wrong(("sign", "part_wrong"), "The negative samples pull as the true context does.")
def negatives_pull(dout, cache):
    dv, du, dun = skip_gram_parts(dout, cache)
    return skip_gram_tables(dv[0] - dv[1], du, -dun, cache)


@SKIP_GRAM.wrong("overwritten", "The centre word learns from the true context only.")
def centre_from_the_context_alone(dout, cache):
    dv, du, dun = skip_gram_parts(dout, cache)
    return skip_gram_tables(dv[0], du, dun, cache)


@SKIP_GRAM.wrong("other_parameter", "The two tables are of one shape, and exchanged.")
def tables_exchanged(dout, cache):
    return skip_gram_backward(dout, cache)[::-1]


@SKIP_GRAM.wrong("overwritten", "douter[negatives] -= keeps one of those drawn twice.")
def negatives_drawn_twice(dout, cache):
    dv, du, dun = skip_gram_parts(dout, cache)
    dinner, douter = skip_gram_tables(dv[0] + dv[1], du, 0 * dun, cache)
    douter[cache[-1]] += dun
    return dinner, douter


def bag_of_words(table, w, *, context):
    """CBOW: scores from the mean of the context's vectors."""
    h = table[context].mean(1)
    return h @ w, (table.shape, h, w, context)


def bag_of_words_backward(dout, cache):
    shape, h, w, context = cache
    dh, dtable = dout @ w.T / context.shape[1], np.zeros(shape)
    np.add.at(dtable, context, dh[:, None])
    return dtable, h.T @ dout


def bag_of_words_case(rng):
    n, c, d, v = different(rng, 4, 3, 7)
    args = [rng.standard_normal((9, d)), rng.standard_normal((d, v))]
    return args, {"context": repeated(rng, 9, (n, c))}


BAG = Subject(bag_of_words, bag_of_words_backward, bag_of_words_case)


@BAG.wrong("factor", "A sum's gradient for the mean's.")
def not_over_the_context(dout, cache):
    dtable, dw = bag_of_words_backward(dout, cache)
    return dtable * cache[3].shape[1], dw


@BAG.wrong("overwritten", "A word twice in a context gets one share.")
def words_twice_in_a_context(dout, cache):
    shape, h, w, context = cache
    dh, dtable = dout @ w.T / context.shape[1], np.zeros(shape)
    for words, d in zip(context, dh, strict=True):
        dtable[words] += d
    return dtable, h.T @ dout


@BAG.wrong("part_wrong", "The context's last word is left out by a range one too short.")
def last_word_left_out(dout, cache):
    shape, h, w, context = cache
    dh, dtable = dout @ w.T / context.shape[1], np.zeros(shape)
    for place in range(context.shape[1] - 1):
        np.add.at(dtable, context[:, place], dh)
    return dtable, h.T @ dout
