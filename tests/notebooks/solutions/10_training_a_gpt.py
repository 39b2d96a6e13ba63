# %% solution="my_rate"
def my_rate(step, *, lr, steps, warmup, final):
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    if step >= steps:
        return final
    share = (step - warmup) / (steps - warmup)
    return final + (lr - final) * (1 + math.cos(math.pi * share)) / 2


# %% wrong="my_rate"
def my_rate(step, *, lr, steps, warmup, final):
    # the cosine's share counted from the very beginning
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    share = min(step / steps, 1)
    return final + (lr - final) * (1 + math.cos(math.pi * share)) / 2


# %% wrong="my_rate"
def my_rate(step, *, lr, steps, warmup, final):
    # a first update that does nothing
    if step < warmup:
        return lr * step / warmup
    if step >= steps:
        return final
    share = (step - warmup) / (steps - warmup)
    return final + (lr - final) * (1 + math.cos(math.pi * share)) / 2


# %% solution="my_clip"
def my_clip(grads, max_norm):
    norm = math.sqrt(sum(float(np.sum(g.astype(np.float64) ** 2)) for g in grads.values()))
    scale = min(1.0, max_norm / (norm + 1e-6))
    return {name: g * scale for name, g in grads.items()}, norm


# %% wrong="my_clip"
def my_clip(grads, max_norm):
    # each array on its own
    norm = math.sqrt(sum(float(np.sum(g**2)) for g in grads.values()))
    return {
        name: g * min(1.0, max_norm / (np.sqrt(np.sum(g**2)) + 1e-6)) for name, g in grads.items()
    }, norm


# %% wrong="my_clip"
def my_clip(grads, max_norm):
    # elements, not the norm
    norm = math.sqrt(sum(float(np.sum(g**2)) for g in grads.values()))
    return {name: np.clip(g, -max_norm, max_norm) for name, g in grads.items()}, norm


# %% solution="product_flops"
def product_flops(config, block):
    C, D, F = config.n_embd, config.head_size, config.inner
    qkv = C * (config.n_head + 2 * config.kv_heads) * D
    layer = 6 * (qkv + C * C + 2 * C * F) + 7 * 2 * block * C
    return config.n_layer * layer + 6 * config.vocab_size * C


# %% wrong="product_flops"
def product_flops(config, block):
    # 12 C^2 a layer, whatever its heads and its MLP
    C = config.n_embd
    layer = 6 * 12 * C * C + 7 * 2 * block * C
    return config.n_layer * layer + 6 * config.vocab_size * C


# %% wrong="product_flops"
def product_flops(config, block):
    # the rule, without attention
    C, D, F = config.n_embd, config.head_size, config.inner
    qkv = C * (config.n_head + 2 * config.kv_heads) * D
    return 6 * (config.n_layer * (qkv + C * C + 2 * C * F) + config.vocab_size * C)


# %% solution="combine"
def combine(parts):
    tokens = sum(count for _, count in parts)
    return {
        name: sum(grads[name] * count / tokens for grads, count in parts) for name in parts[0][0]
    }


# %% wrong="combine"
def combine(parts):
    # a mean of means
    return {name: sum(grads[name] for grads, _ in parts) / len(parts) for name in parts[0][0]}


# %% wrong="combine"
def combine(parts):
    # a sum, as if the losses were sums
    return {name: sum(grads[name] for grads, _ in parts) for name in parts[0][0]}


# %% solution="two_sizes"
def two_sizes(length_small, small, length_large, large):
    signal = (large * length_large - small * length_small) / (large - small)
    spread = (length_small - length_large) / (1 / small - 1 / large)
    return signal, spread


# %% wrong="two_sizes"
def two_sizes(length_small, small, length_large, large):
    # takes the large batch for noiseless
    return length_large, (length_small - length_large) * small


# %% wrong="my_rate"
def my_rate(step, *, lr, steps, warmup, final):
    # falls to zero, and rises again after the last step
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    share = (step - warmup) / (steps - warmup)
    return lr * (1 + math.cos(math.pi * share)) / 2


# %% wrong="my_clip"
def my_clip(grads, max_norm):
    # lengthens what is short, too
    norm = math.sqrt(sum(float(np.sum(g**2)) for g in grads.values()))
    return {name: g * (max_norm / (norm + 1e-6)) for name, g in grads.items()}, norm


# %% wrong="my_clip"
def my_clip(grads, max_norm):
    # writes into its input
    norm = math.sqrt(sum(float(np.sum(g**2)) for g in grads.values()))
    for g in grads.values():
        g *= min(1.0, max_norm / (norm + 1e-6))
    return grads, norm


# %% wrong="product_flops"
def product_flops(config, block):
    # the first product of attention not done again in backward
    C, D, F = config.n_embd, config.head_size, config.inner
    qkv = C * (config.n_head + 2 * config.kv_heads) * D
    layer = 6 * (qkv + C * C + 2 * C * F) + 6 * 2 * block * C
    return config.n_layer * layer + 6 * config.vocab_size * C


# %% wrong="combine"
def combine(parts):
    # the larger the part, the less it counts
    total = sum(1 / count for _, count in parts)
    return {n: sum(g[n] / count for g, count in parts) / total for n in parts[0][0]}


# %% wrong="two_sizes"
def two_sizes(length_small, small, length_large, large):
    # right in the signal, takes all of the small batch's length for noise
    signal = (large * length_large - small * length_small) / (large - small)
    return signal, length_small * small


# %% wrong="two_sizes"
def two_sizes(length_small, small, length_large, large):
    # forgets that the sizes stand below the fraction
    spread = (length_small - length_large) / (large - small)
    return length_small - spread / small, spread
