# %% solution="forget_bias"
def forget_bias(steps):
    f = 0.5 ** (1 / steps)
    return np.log(f / (1 - f))


# %% wrong="forget_bias"
def forget_bias(steps):
    return np.log(steps)  # the time in which 1/e is left, roughly


# %% wrong="forget_bias"
def forget_bias(steps):
    return 0.5 ** (1 / steps)  # the gate, not its bias


# %% solution="search"
def best_cell(here, feature_here, there, feature_there):
    cell = int(np.abs(correlations(here, feature_here)).argmax())
    return cell, correlations(there, feature_there)[cell]


# %% wrong="search"
def best_cell(here, feature_here, there, feature_there):
    r = correlations(here, feature_here)
    return int(np.abs(r).argmax()), r[np.abs(r).argmax()]  # reported where it was sought


# %% wrong="search"
def best_cell(here, feature_here, there, feature_there):
    cell = int(correlations(here, feature_here).argmax())  # misses a cell of the other sign
    return cell, correlations(there, feature_there)[cell]


# %% wrong="search"
def best_cell(here, feature_here, there, feature_there):
    covariance = (feature_here - feature_here.mean()) @ here  # a loud cell wins
    cell = int(np.abs(covariance).argmax())
    return cell, correlations(there, feature_there)[cell]


# %% solution="silence"
def silenced(params, cell):
    layer, head = dict(params["layers"][0]), dict(params["head"])  # what is not changed is shared
    layer["weight_h"], head["weight"] = layer["weight_h"].copy(), head["weight"].copy()
    layer["weight_h"][cell] = 0
    head["weight"][:, cell] = 0
    return params | {"layers": [layer], "head": head}


# %% wrong="silence"
def silenced(params, cell):
    params["layers"][0]["weight_h"][cell] = 0  # in place: the original is gone
    params["head"]["weight"][:, cell] = 0
    return params


# %% wrong="silence"
def silenced(params, cell):
    layer = {name: weight.copy() for name, weight in params["layers"][0].items()}
    head = {name: weight.copy() for name, weight in params["head"].items()}
    head["weight"][:, cell] = 0  # the next step's gates still read it
    return params | {"layers": [layer], "head": head}


# %% wrong="silence"
def silenced(params, cell):
    layer = {name: weight.copy() for name, weight in params["layers"][0].items()}
    for gate in range(4):
        layer["weight_h"][:, gate * len(layer["weight_h"]) + cell] = (
            0  # what drives it, not who reads it
        )
    head = {name: weight.copy() for name, weight in params["head"].items()}
    head["weight"][:, cell] = 0
    return params | {"layers": [layer], "head": head}


# %% solution="coupled"
def coupled_cell_backward(dout, cache):
    x, h, c, f, g, o, c_new, weight_x, weight_h = cache
    dh_new, dc_new = dout
    tanh_c = np.tanh(c_new)
    do = dh_new * tanh_c
    dc_new = dc_new + dh_new * o * (1 - tanh_c**2)
    df, dg, dc = dc_new * (c - g), dc_new * (1 - f), dc_new * f
    da = np.concatenate([df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)], axis=-1)
    return da @ weight_x.T, da @ weight_h.T, dc, x.T @ da, h.T @ da, da.sum(0)


# %% wrong="coupled"
def coupled_cell_backward(dout, cache):
    x, h, c, f, g, o, c_new, weight_x, weight_h = cache
    dh_new, dc_new = dout
    tanh_c = np.tanh(c_new)
    do = dh_new * tanh_c
    dc_new = dc_new + dh_new * o * (1 - tanh_c**2)
    df, dg, dc = dc_new * c, dc_new * (1 - f), dc_new * f  # f is read twice
    da = np.concatenate([df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)], axis=-1)
    return da @ weight_x.T, da @ weight_h.T, dc, x.T @ da, h.T @ da, da.sum(0)


# %% wrong="coupled"
def coupled_cell_backward(dout, cache):
    x, h, c, f, g, o, c_new, weight_x, weight_h = cache
    dh_new, _ = dout  # c' is an output too
    tanh_c = np.tanh(c_new)
    do = dh_new * tanh_c
    dc_new = dh_new * o * (1 - tanh_c**2)
    df, dg, dc = dc_new * (c - g), dc_new * (1 - f), dc_new * f
    da = np.concatenate([df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)], axis=-1)
    return da @ weight_x.T, da @ weight_h.T, dc, x.T @ da, h.T @ da, da.sum(0)
