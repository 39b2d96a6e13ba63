"""Arguments of what has no flat list of arrays."""


def stack(rng, size, large):
    """x, state and params of a stack of recurrent layers of GRU cells."""
    layers, batch, steps, channels, hidden = (int(n) for n in 1 + rng.permutation(size + 4)[:5])
    layers, steps = min(layers, 2), steps + 1

    def values(*shape):
        return 0.6 * rng.standard_normal(shape) + 0.1

    params = []
    for layer in range(layers):
        wide = channels if layer == 0 else hidden
        params.append(
            {
                "weight_x": values(wide, 3 * hidden),
                "weight_h": values(hidden, 3 * hidden),
                "bias": values(3 * hidden),
                "bias_h": values(3 * hidden),
            }
        )
    state = values(layers, batch, hidden) if size == 1 or rng.random() < 0.7 else None
    return [values(batch, steps, channels), state, params], {}
