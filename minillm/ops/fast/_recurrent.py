"""What the fast recurrent layers share: the walk through the layers, and their products.

Inside, time comes before the batch, so that each step's rows lie together, and each gate is an
array of its own, so that a pass over one runs through one block of memory. A state is a tuple here:
(h,), or (h, c) in an LSTM. G is the number of gates. An input x is an array (T, B, C), or a pair
(table (V, C), ids (T, B)) that stands for table[ids]; see embedding_recurrent.py.
"""

import numpy as np

from minillm.ops._recurrent import check_layers
from minillm.ops.dropout import dropout as dropout_op

# OpenBLAS first copies both factors into an order of its own, at every call, unless the product
# takes at most this many multiplications (on x86-64 with AVX-512; elsewhere it does not matter).
SMALL = 100**3
LINE = 64  # bytes of a cache line; a vector register's load should not lie across two


def check_inputs(x, params, **expected):
    """(L, B, K), and an array in the inputs' dtype."""
    if isinstance(x, tuple):
        table, ids = x
        x = np.broadcast_to(table[:1], (*ids.shape, table.shape[-1]))  # the shape of table[ids]
    return check_layers(x, params, **expected), x


def forward_layers(one_layer, x, starts, params, dropout, rng):
    """Run `one_layer(x, *start, weights) -> (y, end, saved)` layer by layer, on (T, B, C).

    x is (B, T, C), or (table (V, C), ids (B, T)). Returns y (B, T, K), the end states, each
    (L, B, K), and what `backward_layers` needs.
    """
    y, ends, caches = _time_major(x), tuple(np.empty_like(s) for s in starts), []
    for layer, weights in enumerate(params):
        mask = None
        if layer > 0 and rng is not None and dropout > 0:
            # drawn for (B, T, C), as in the reference: the same generator gives the same mask
            y, mask = dropout_op(_time_major(y), p=dropout, rng=rng)
            y = _time_major(y)
        read, start = y, [s[layer] for s in starts]
        y, end, saved = one_layer(read, *start, weights)
        for whole, part in zip(ends, end, strict=True):
            whole[layer] = part
        caches.append((mask, read, *start, y, *saved))
    return _time_major(y), ends, (caches, params)


def backward_layers(one_layer, dy, dends, cache):
    """Run `one_layer(dy, *dend, saved, weights) -> (dx, dstart, dweights)` in reverse.

    Returns dx (B, T, C), or the table's gradient (V, C), the start states' gradients, each
    (L, B, K), and the list of dweights.
    """
    caches, params = cache
    dy, dstarts = _time_major(dy), tuple(np.empty_like(d) for d in dends)
    dparams: list[dict] = []
    for layer in reversed(range(len(params))):
        mask, *saved = caches[layer]
        dend = [d[layer] for d in dends]
        dy, dstart, dweights = one_layer(dy, *dend, saved, params[layer])
        for whole, part in zip(dstarts, dstart, strict=True):
            whole[layer] = part
        if mask is not None:
            dy = _time_major(dropout_op.backward(_time_major(dy), mask))
        dparams.insert(0, dweights)
    return dy if dy.ndim == 2 else _time_major(dy), dstarts, dparams


def _time_major(x):
    """(B, T, C) to (T, B, C), or back; always a copy, so that nobody else's array is kept."""
    if isinstance(x, tuple):
        return x[0], x[1].T.copy()
    return x.transpose(1, 0, 2).copy()


def aligned(shape, dtype):
    """An uninitialised array that begins at the start of a cache line."""
    size, item = int(np.prod(shape)), np.dtype(dtype).itemsize
    memory = np.empty(size + LINE // item, dtype)
    first = -memory.ctypes.data % LINE // item
    return memory[first : first + size].reshape(shape)


def by_gate(weight, gates):
    """(C, G * K) or (G * K,) as a view (G, C, K) or (G, 1, K), gate by gate."""
    weight = np.ascontiguousarray(weight)
    return weight.reshape(-1, gates, weight.shape[-1] // gates).transpose(1, 0, 2)


def project(x, weight, gates):
    """The inputs' share of all gates at all steps, (G, T, B, K), by one product over all rows."""
    weight = by_gate(weight, gates)  # (G, C, K)
    if isinstance(x, tuple):
        table, ids = x
        return np.take(table @ weight, ids, axis=1)
    steps, batch, _ = x.shape
    a = aligned((gates, steps, batch, weight.shape[-1]), x.dtype)
    np.matmul(_rows(x), weight, out=a.reshape(gates, steps * batch, a.shape[-1]))
    return a


def project_backward(x, da, weight):
    """From da (T, B, G * K) the gradients of x, or of its table, and of the weight (C, G * K)."""
    da, shape = _rows(da), (*da.shape[:2], len(weight))
    if isinstance(x, tuple):
        (x, ids), shape = x, x[0].shape
        places = np.zeros((len(x), ids.size), da.dtype)
        places[ids.reshape(-1), np.arange(ids.size)] = 1
        da = places @ da  # (V, G * K): summed over each token's places
    return (da @ weight.T).reshape(shape), _rows(x).T @ da


def step_product(weight, batch, steps):
    """A function of left (B, R) or (G, B, R): left @ weight (G, R, N), in an array (G, B, N) that
    the next call overwrites. The weight is cut once, for all steps, into blocks of columns that
    keep each product below SMALL.
    """
    gates, rows, columns = weight.shape
    fitting = (n for n in range(32, columns, 16) if columns % n == 0 and batch * rows * n <= SMALL)
    n = columns if batch * rows * columns <= SMALL else max(fitting, default=columns)
    blocks = weight.reshape(gates, rows, columns // n, n).swapaxes(1, 2)  # (G, N / n, R, n)
    if steps > 4:  # for fewer, the copy costs more than it saves
        blocks, scattered = aligned(blocks.shape, weight.dtype), blocks
        blocks[...] = scattered
    product = aligned((gates, batch, columns), weight.dtype)
    out = product.reshape(gates, batch, columns // n, n).swapaxes(1, 2)  # (G, N / n, B, n)

    def multiply(left):
        np.matmul(left[..., None, :, :], blocks, out=out)
        return product

    return multiply


def weight_h_gradient(h_start, hs, da):
    """(K, G * K), by one product over T * B rows; each step has read the h of the one before."""
    return _rows(np.concatenate([h_start[None], hs[:-1]])).T @ _rows(da)


def bias_gradient(da):
    """(G * K,): the sum over T * B rows, as a product with ones."""
    return np.ones(da.shape[0] * da.shape[1], da.dtype) @ _rows(da)


def _rows(x):
    return x.reshape(-1, x.shape[-1])
