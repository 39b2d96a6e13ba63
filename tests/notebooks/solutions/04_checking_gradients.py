# %% solution="central_difference"
def central_difference(f, x, d, h=1e-5):
    gradient = np.empty_like(x)
    for place in np.ndindex(x.shape):
        plus, minus = x.copy(), x.copy()
        plus[place] += h
        minus[place] -= h
        gradient[place] = (d * (f(plus) - f(minus))).sum() / (2 * h)
    return gradient


# %% wrong="central_difference"
def central_difference(f, x, d, h=1e-5):
    gradient = np.empty_like(x)
    for place in np.ndindex(x.shape):
        plus = x.copy()
        plus[place] += h
        gradient[place] = (d * (f(plus) - f(x))).sum() / h
    return gradient


# %% wrong="central_difference"
def central_difference(f, x, d, h=1e-5):
    gradient = np.empty_like(x)
    for place in np.ndindex(x.shape):
        plus, minus = x.copy(), x.copy()
        plus[place] += h
        minus[place] -= h
        gradient[place] = (f(plus) - f(minus)).sum() / (2 * h)  # of a sum, whatever d is
    return gradient


# %% wrong="central_difference"
def central_difference(f, x, d, h=1e-5):
    gradient = np.empty_like(x)
    for place in np.ndindex(x.shape):
        plus, minus = x.copy(), x.copy()
        plus[place] += h
        minus[place] -= h
        gradient[place] = d[place] * (f(plus) - f(minus))[place] / (2 * h)  # the diagonal alone
    return gradient


# %% solution="richardson"
def richardson(f, x, h):
    coarse = (f(x + h) - f(x - h)) / (2 * h)
    fine = (f(x + h / 2) - f(x - h / 2)) / h
    return (4 * fine - coarse) / 3


# %% wrong="richardson"
def richardson(f, x, h):
    coarse = (f(x + h) - f(x - h)) / (2 * h)
    fine = (f(x + h / 2) - f(x - h / 2)) / h
    return 2 * fine - coarse  # cancels h, not h^2


# %% wrong="richardson"
def richardson(f, x, h):
    return (f(x + h / 2) - f(x - h / 2)) / h  # better than with h, and of the same order


# %% solution="repair"
def masked_mean_backward(dy, cache):
    mask, count = cache
    return (dy / count)[:, None, :] * mask[..., None]


# %% wrong="repair"
def masked_mean_backward(dy, cache):
    mask, _ = cache
    return (dy / mask.shape[1])[:, None, :] * mask[..., None]


# %% wrong="repair"
def masked_mean_backward(dy, cache):
    mask, count = cache
    return np.repeat((dy / count)[:, None, :], mask.shape[1], axis=1)


# %% solution="smuggler"
def smuggled_backward(dy, y):
    return dy[::-1] * (1 - y**2)


# %% wrong="smuggler"
def smuggled_backward(dy, y):
    return dy * (1 - y**2)


# %% wrong="smuggler"
def smuggled_backward(dy, y):
    return 0 * dy


# %% wrong="smuggler"
def smuggled_backward(dy, y):  # breaks a rule, but its numbers are right
    dy *= 1 - y**2
    return dy


# %% wrong="smuggler"
def smuggled_backward(dy, y):  # off by a rounding
    return (dy * (1 - y**2)).astype(np.float32)
