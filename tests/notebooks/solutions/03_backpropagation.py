# %% solution="gate"
def gate_backward(dy, cache):
    a, b = cache
    return sum_to_shape(dy * b, a.shape), sum_to_shape(dy * a, b.shape)


# %% wrong="gate"
def gate_backward(dy, cache):
    a, b = cache
    return (dy * b).mean(-1, keepdims=True), sum_to_shape(dy * a, b.shape)


# %% wrong="gate"
def gate_backward(dy, cache):
    a, b = cache
    return dy * b, dy * a  # nothing is summed


# %% wrong="gate"
def gate_backward(dy, cache):
    a, b = cache
    return (dy * b).sum(-1, keepdims=True), (dy * a).sum(0)  # summed over one axis of two


# %% solution="null_upstream"
def null_upstream(x):
    return x / np.sqrt((x**2).sum(-1, keepdims=True))


# %% wrong="null_upstream"
def null_upstream(x):
    return np.full_like(x, 1 / np.sqrt(x.shape[-1]))


# %% solution="rms_norm"
def rms_norm_backward(dy, cache):
    normed, inv_rms, gain = cache
    dnormed = dy * gain
    dx = inv_rms * (dnormed - normed * (dnormed * normed).mean(-1, keepdims=True))
    return dx, (dy * normed).sum(0)


# %% wrong="rms_norm"
def rms_norm_backward(dy, cache):
    normed, inv_rms, gain = cache
    return inv_rms * dy * gain, (dy * normed).sum(0)


# %% wrong="rms_norm"
def rms_norm_backward(dy, cache):
    normed, inv_rms, gain = cache
    share = (dy * normed).mean(-1, keepdims=True)  # without the gain
    return inv_rms * (dy * gain - normed * share), (dy * normed).sum(0)


# %% solution="tied"
def tied(x, W):
    hidden, cache_in = linear(x, W)
    hidden, cache_tanh = tanh(hidden)
    y, cache_out = linear(hidden, W.T)
    return y, (cache_in, cache_tanh, cache_out)


def tied_backward(dy, cache):
    cache_in, cache_tanh, cache_out = cache
    dhidden, dW_out, _ = linear.backward(dy, cache_out)
    dx, dW_in, _ = linear.backward(tanh.backward(dhidden, cache_tanh), cache_in)
    return dx, dW_in + dW_out.T


# %% wrong="tied"
def tied(x, W):
    hidden, cache_in = linear(x, W)
    hidden, cache_tanh = tanh(hidden)
    y, cache_out = linear(hidden, W.T)
    return y, (cache_in, cache_tanh, cache_out)


def tied_backward(dy, cache):
    cache_in, cache_tanh, cache_out = cache
    dhidden, _dW_out, _ = linear.backward(dy, cache_out)
    dx, dW_in, _ = linear.backward(tanh.backward(dhidden, cache_tanh), cache_in)
    return dx, dW_in
