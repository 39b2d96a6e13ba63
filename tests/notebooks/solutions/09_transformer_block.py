# %% solution="write_scale"
def write_scale(n_layer):
    return 1 / np.sqrt(2 * n_layer)


# %% wrong="write_scale"
def write_scale(n_layer):
    return 1 / (2 * n_layer)


# %% wrong="write_scale"
def write_scale(n_layer):
    return 0.1


# %% wrong="write_scale"
def write_scale(n_layer):
    return 1 / np.log(n_layer)


# %% solution="rezero"
def rezero_backward(dy, cache):
    x, alpha, W, branch = cache
    dpre = alpha * dy * (1 - branch**2)
    return dy + dpre @ W.T, (dy * branch).sum(), x.T @ dpre


# %% wrong="rezero"
def rezero_backward(dy, cache):
    x, alpha, W, branch = cache
    dpre = alpha * dy * (1 - branch**2)
    return dpre @ W.T, (dy * branch).sum(), x.T @ dpre  # the way past the branch is lost


# %% solution="identity_start"
def identity_start(params):
    new = map_leaves(np.copy, params)
    new["attention"]["out"]["weight"][:] = 0
    new["mlp"]["down"]["weight"][:] = 0
    moving = {"attention.out.weight", "attention.out.bias", "mlp.down.weight", "mlp.down.bias"}
    return new, moving


# %% wrong="identity_start"
def identity_start(params):
    new = map_leaves(np.copy, params)
    new["attention"]["out"]["weight"][:] = 0
    new["mlp"]["down"]["weight"][:] = 0
    return new, set(flatten(params))


# %% wrong="identity_start"
def identity_start(params):
    new = map_leaves(np.copy, params)
    new["norm1"]["gain"][:] = 0
    new["norm2"]["gain"][:] = 0
    return new, {"norm1.gain", "norm2.gain"}


# %% wrong="identity_start"
def identity_start(params):
    params["attention"]["out"]["weight"][:] = 0  # not in a copy
    params["mlp"]["down"]["weight"][:] = 0
    moving = {"attention.out.weight", "attention.out.bias", "mlp.down.weight", "mlp.down.bias"}
    return params, moving


# %% solution="parallel_block"
def parallel_block(x, norm, attention, mlp, *, n_head):
    h, cache_norm = layer_norm(x, norm["gain"], norm["bias"])
    attended, cache_attention = multi_head_attention(h, attention, n_head=n_head, causal=True)
    thought, cache_mlp = mlp_gelu(h, *mlp)
    return x + attended + thought, (cache_norm, cache_attention, cache_mlp)


def parallel_block_backward(dy, cache):
    cache_norm, cache_attention, cache_mlp = cache
    dh, *dmlp = mlp_gelu.backward(dy, cache_mlp)
    dh_attention, dattention, _ = multi_head_attention.backward(dy, cache_attention)
    dx, dgain, dbias = layer_norm.backward(dh + dh_attention, cache_norm)
    return dy + dx, {"gain": dgain, "bias": dbias}, dattention, dmlp


# %% wrong="parallel_block"
def parallel_block(x, norm, attention, mlp, *, n_head):
    h, cache_norm = layer_norm(x, norm["gain"], norm["bias"])
    attended, cache_attention = multi_head_attention(h, attention, n_head=n_head, causal=True)
    thought, cache_mlp = mlp_gelu(h, *mlp)
    return x + attended + thought, (cache_norm, cache_attention, cache_mlp)


def parallel_block_backward(dy, cache):
    cache_norm, cache_attention, cache_mlp = cache
    _, *dmlp = mlp_gelu.backward(dy, cache_mlp)
    dh, dattention, _ = multi_head_attention.backward(dy, cache_attention)
    dx, dgain, dbias = layer_norm.backward(dh, cache_norm)
    return dy + dx, {"gain": dgain, "bias": dbias}, dattention, dmlp
