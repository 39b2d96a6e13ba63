import threading
import time

import numpy as np
import pytest
import threadpoolctl

import minillm
from minillm.cores import available_cores
from minillm.ops._state import current
from minillm.ops.layer_norm import layer_norm
from minillm.optim.pieces import PIECE, pieces, spread
from minillm.training.parallel import WorkerPool, reduce_gradients, shard
from minillm.tree import flatten, map_leaves


def blas_threads():
    return [i["num_threads"] for i in threadpoolctl.threadpool_info() if i["user_api"] == "blas"]


def test_map_runs_all_at_once_in_order_on_fixed_threads():
    barrier = threading.Barrier(3, timeout=10)

    def meet(item):
        barrier.wait()  # passes only when three threads are here
        return item, threading.get_ident()

    with WorkerPool(3) as pool:
        first, second = pool.map(meet, "abc"), pool.map(meet, "abc")
        assert [item for item, _ in first] == ["a", "b", "c"]
        assert first == second
        assert first[0][1] == threading.get_ident()
        assert pool.map(meet, []) == []
        with pytest.raises(ValueError, match="4 items for a pool of 3 threads"):
            pool.map(meet, "abcd")


def test_blas_has_one_thread_inside_and_its_own_number_after():
    before = blas_threads()
    with WorkerPool(2):
        assert set(blas_threads()) == {1}
    assert blas_threads() == before


def test_backend_and_trace_follow():
    x = np.random.default_rng(0).standard_normal((2, 3))
    with WorkerPool(2) as pool, minillm.backend("numpy"), minillm.trace() as steps:
        backends = pool.map(
            lambda _: (layer_norm(x, np.ones(3), np.ones(3)), current().backend)[1], [0, 1]
        )
    assert backends == ["numpy", "numpy"]
    assert len(steps) == 2


@pytest.mark.parametrize("bad", [0, 1])
def test_an_error_reaches_the_caller_after_all_have_ended(bad):
    ended = []

    def work(item):
        if item == bad:
            raise KeyError(item)
        time.sleep(0.05)
        ended.append(item)

    with WorkerPool(2) as pool:
        with pytest.raises(KeyError, match=str(bad)):
            pool.map(work, [0, 1])
        assert ended == [1 - bad]
        assert pool.map(abs, [-1, -2]) == [1, 2]  # and the pool goes on


def test_shards_are_nearly_equal_and_never_empty():
    batch = np.arange(14).reshape(7, 2)
    assert [len(s) for s in shard(batch, 3)] == [3, 2, 2]
    assert [len(s) for s in shard(batch[:2], 3)] == [1, 1]
    assert np.array_equal(np.concatenate(shard(batch, 3)), batch)


def nest(rng, dtype):
    return {
        "a": rng.standard_normal((PIECE // 2 + 1, 3)).astype(dtype),
        "b": [rng.standard_normal(4).astype(dtype), None],
        "c": rng.standard_normal((4, 5)).astype(dtype).T,
    }


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_reduction_is_the_weighted_sum(threads):
    rng = np.random.default_rng(1)
    grads = [nest(rng, np.float64) for _ in range(3)]
    weights = [0.5, 0.2, 0.3]
    expected = {
        name: sum(w * flatten(g)[name] for w, g in zip(weights, grads, strict=True))
        for name in flatten(grads[0])
    }
    first = grads[0]["a"]
    with WorkerPool(threads) as pool:
        total = reduce_gradients(grads, weights, pool=pool)
    assert total["b"][1] is None
    assert total["a"] is first  # in place, no new memory
    for name, value in flatten(total).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-14, atol=1e-15)


def test_reduction_of_one_is_itself():
    grads = nest(np.random.default_rng(2), np.float32)
    total = reduce_gradients([grads], [1.0])
    for name, value in flatten(total).items():
        assert np.array_equal(value, flatten(grads)[name])
    half = reduce_gradients([map_leaves(np.copy, grads)], [0.5])
    for name, value in flatten(half).items():
        assert np.array_equal(value, flatten(grads)[name] / 2)


def test_reduction_of_aliased_and_read_only_leaves():
    """Backwards may hand out one array twice, or a broadcast view: neither may be written twice."""
    shared = np.ones(3)
    grads = [
        {"x": shared, "h": shared, "wide": np.broadcast_to(np.ones(3), (2, 3))},
        {"x": np.full(3, 2.0), "h": np.full(3, 4.0), "wide": np.full((2, 3), 6.0)},
    ]
    total = reduce_gradients(grads, [0.5, 0.5])
    assert np.all(total["x"] == 1.5)
    assert np.all(total["h"] == 2.5)
    assert np.all(total["wide"] == 3.5)


@pytest.mark.parametrize("sizes", [[5], [PIECE, 1], [3 * PIECE + 1, 2, 0, PIECE - 1]])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_spread_covers_every_element_once(sizes, threads):
    seen = [np.zeros(n, int) for n in sizes]

    def mark(part):
        for index, start, stop in part:
            assert stop - start <= PIECE
            seen[index][start:stop] += 1

    with WorkerPool(threads) as pool:
        spread(mark, pieces(sizes), pool)
    assert all(np.all(s == 1) for s in seen)


def test_at_least_one_thread():
    assert available_cores() >= 1
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        WorkerPool(0)
