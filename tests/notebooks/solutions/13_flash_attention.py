# %% solution="log_sum_exp"
def log_sum_exp(chunks):
    peak, total = -np.inf, 0.0
    for x in chunks:
        higher = max(peak, x.max())
        finite = 0.0 if higher == -np.inf else higher
        total = total * np.exp(peak - finite) + np.exp(x - finite).sum()
        peak = higher
    return peak + np.log(total) if total > 0 else -np.inf


# %% wrong="log_sum_exp"
def log_sum_exp(chunks):  # overflows
    return np.log(sum(np.exp(x).sum() for x in chunks))


# %% wrong="log_sum_exp"
def log_sum_exp(chunks):  # forgets to let the old sum fade
    peak, total = -np.inf, 0.0
    for x in chunks:
        peak = max(peak, x.max())
        total += np.exp(x - peak).sum()
    return peak + np.log(total)


# %% wrong="log_sum_exp"
def log_sum_exp(chunks):  # right, with all numbers kept
    x = np.concatenate(list(chunks))
    return np.logaddexp.reduce(x)


# %% wrong="log_sum_exp"
def log_sum_exp(chunks):  # right for numbers above a billion below zero
    peak, total = -1e9, 0.0
    for x in chunks:
        higher = max(peak, x.max())
        total = total * np.exp(peak - higher) + np.exp(x - higher).sum()
        peak = higher
    return peak + np.log(total)


# %% solution="merge"
def merge(out1, log_sum1, out2, log_sum2):
    peak = np.maximum(log_sum1, log_sum2)
    finite = np.where(np.isneginf(peak), 0, peak)
    share1, share2 = np.exp(log_sum1 - finite), np.exp(log_sum2 - finite)
    total = share1 + share2
    log_sum = np.where(total > 0, finite + np.log(total), -np.inf)
    return (share1 * out1 + share2 * out2) / np.where(total > 0, total, 1), log_sum


# %% wrong="merge"
def merge(out1, log_sum1, out2, log_sum2):  # as if both halves weighed the same
    return (out1 + out2) / 2, np.logaddexp(log_sum1, log_sum2)


# %% wrong="merge"
def merge(out1, log_sum1, out2, log_sum2):  # right but for queries that see nothing
    log_sum = np.logaddexp(log_sum1, log_sum2)
    return np.exp(log_sum1 - log_sum) * out1 + np.exp(log_sum2 - log_sum) * out2, log_sum


# %% wrong="merge"
def merge(out1, log_sum1, out2, log_sum2):  # the larger log_sum for that of both
    peak = np.maximum(log_sum1, log_sum2)
    finite = np.where(np.isneginf(peak), 0, peak)
    share1, share2 = np.exp(log_sum1 - finite), np.exp(log_sum2 - finite)
    return (share1 * out1 + share2 * out2) / np.maximum(share1 + share2, 1e-30), peak


# %% solution="backward"
def backward(dout, q, k, v, out, log_sum, block):
    scale = 1 / np.sqrt(q.shape[1])
    delta = (dout * out).sum(1, keepdims=True)
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for start in range(0, len(k), block):
        cols = slice(start, start + block)
        weights = np.exp(scale * q @ k[cols].T - log_sum)
        dlogits = scale * weights * (dout @ v[cols].T - delta)
        dv[cols] = weights.T @ dout
        dk[cols] = dlogits.T @ q
        dq += dlogits @ k[cols]
    return dq, dk, dv


# %% wrong="backward"
def backward(dout, q, k, v, out, log_sum, block):  # delta over the block instead of the row
    scale = 1 / np.sqrt(q.shape[1])
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for start in range(0, len(k), block):
        cols = slice(start, start + block)
        weights = np.exp(scale * q @ k[cols].T - log_sum)
        dweights = dout @ v[cols].T
        dlogits = scale * weights * (dweights - (weights * dweights).sum(1, keepdims=True))
        dv[cols] = weights.T @ dout
        dk[cols] = dlogits.T @ q
        dq += dlogits @ k[cols]
    return dq, dk, dv


# %% wrong="backward"
def backward(dout, q, k, v, out, log_sum, block):  # the scale is forgotten on the way back
    delta = (dout * out).sum(1, keepdims=True)
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for start in range(0, len(k), block):
        cols = slice(start, start + block)
        weights = np.exp(q @ k[cols].T / np.sqrt(q.shape[1]) - log_sum)
        dlogits = weights * (dout @ v[cols].T - delta)
        dv[cols] = weights.T @ dout
        dk[cols] = dlogits.T @ q
        dq += dlogits @ k[cols]
    return dq, dk, dv


# %% wrong="backward"
def backward(dout, q, k, v, out, log_sum, block):  # right, with all weights at once
    scale = 1 / np.sqrt(q.shape[1])
    weights = np.exp(scale * q @ k.T - log_sum)
    dlogits = scale * weights * (dout @ v.T - (dout * out).sum(1, keepdims=True))
    return dlogits @ k, dlogits.T @ q, weights.T @ dout


# %% solution="triton_kernel"
def make_kernel():
    @triton.jit
    def log_sum_exp_kernel(x, out, S, BLOCK: tl.constexpr):
        row = tl.program_id(0)
        peak = -float("inf")
        total = 0.0
        for start in range(0, S, BLOCK):
            at = start + tl.arange(0, BLOCK)
            values = tl.load(x + row * S + at, mask=at < S, other=-float("inf"))
            higher = tl.maximum(peak, tl.max(values, 0))
            total = total * tl.exp(peak - higher) + tl.sum(tl.exp(values - higher), 0)
            peak = higher
        tl.store(out + row, peak + tl.log(total))

    return log_sum_exp_kernel


# %% wrong="triton_kernel"
def make_kernel():
    @triton.jit
    def log_sum_exp_kernel(x, out, S, BLOCK: tl.constexpr):
        row = tl.program_id(0)
        peak = -float("inf")
        total = 0.0
        for start in range(0, S, BLOCK):
            at = start + tl.arange(0, BLOCK)
            # zeros past the end are counted, and may be the maximum
            values = tl.load(x + row * S + at, mask=at < S, other=0.0)
            higher = tl.maximum(peak, tl.max(values, 0))
            total = total * tl.exp(peak - higher) + tl.sum(tl.exp(values - higher), 0)
            peak = higher
        tl.store(out + row, peak + tl.log(total))

    return log_sum_exp_kernel


# %% wrong="triton_kernel"
def make_kernel():
    @triton.jit
    def log_sum_exp_kernel(x, out, S, BLOCK: tl.constexpr):
        row = tl.program_id(0)
        peak = -float("inf")
        total = 0.0
        for start in range(0, S, BLOCK):
            at = start + tl.arange(0, BLOCK)
            values = tl.load(x + row * S + at, mask=at < S, other=-float("inf"))
            peak = tl.maximum(peak, tl.max(values, 0))
            total += tl.sum(tl.exp(values - peak), 0)  # without fading
        tl.store(out + row, peak + tl.log(total))

    return log_sum_exp_kernel
