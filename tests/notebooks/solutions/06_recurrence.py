# %% solution="jacobian"
def jacobian(hs, weight_h):
    product = np.eye(len(weight_h))
    for h in hs:
        product = product @ (weight_h * (1 - h**2))
    return product


# %% wrong="jacobian"
def jacobian(hs, weight_h):
    product = np.eye(len(weight_h))
    for h in hs:
        product = product @ (weight_h * (1 - h**2)[:, None])  # the diagonal on the wrong side
    return product


# %% wrong="jacobian"
def jacobian(hs, weight_h):
    product = np.eye(len(weight_h))
    for h in reversed(hs):  # in the order of the walk back
        product = product @ (weight_h * (1 - h**2))
    return product


# %% solution="clipping"
def clipped(grads, longest):
    norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
    return {name: g * min(1.0, longest / norm) for name, g in grads.items()}


# %% wrong="clipping"
def clipped(grads, longest):
    return {name: g * min(1.0, longest / np.linalg.norm(g)) for name, g in grads.items()}


# %% wrong="clipping"
def clipped(grads, longest):
    return {name: np.clip(g, -longest, longest) for name, g in grads.items()}


# %% wrong="clipping"
def clipped(grads, longest):
    norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
    return {name: g * longest / norm for name, g in grads.items()}  # also lengthens


# %% solution="truncation"
def truncated_gradient(hs, h0, weight_h, dh, steps):
    total, T = np.zeros_like(weight_h), hs.shape[1]
    for t in reversed(range(T - steps, T)):
        da = dh * (1 - hs[:, t] ** 2)
        total += (hs[:, t - 1] if t > 0 else h0).T @ da
        dh = da @ weight_h.T
    return total


# %% wrong="truncation"
def truncated_gradient(hs, h0, weight_h, dh, steps):
    total, T = np.zeros_like(weight_h), hs.shape[1]
    for t in reversed(range(T - steps, T)):
        da = dh * (1 - hs[:, t] ** 2)
        total += hs[:, t - 1].T @ da  # for t = 0 this is the last state, not h0
        dh = da @ weight_h.T
    return total


# %% wrong="truncation"
def truncated_gradient(hs, h0, weight_h, dh, steps):
    total, T = np.zeros_like(weight_h), hs.shape[1]
    for t in reversed(range(T - steps, T)):
        da = dh * (1 - hs[:, t] ** 2)
        total += (hs[:, t - 1] if t > 0 else h0).T @ da
        dh = da @ weight_h  # not transposed
    return total


# %% solution="orthogonal"
def edge(size, seed):
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))
    matrix = q * np.sign(np.diag(r))
    low, high = 1e-4, 1.0
    for _ in range(12):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if kept(matrix, middle) >= 0.1 else (low, middle)
    return matrix, float(f"{low * 0.99:.2g}")


# %% wrong="orthogonal"
def edge(size, seed):
    return recurrent_matrix(1.0, size=size, seed=seed), 0.01  # radius 1 is not orthogonal


# %% wrong="orthogonal"
def edge(size, seed):
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))
    return q, 0.1  # the scale that was used above
