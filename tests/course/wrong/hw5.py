"""Wrong solutions of hw5."""

from tests.course.wrong import Wrong

SCALE = "scale = 1 / math.sqrt(D) if scale is None else float(scale)"
HIDE = "    logits = hide(logits, mask, S - T if causal else None)\n"
SOFTMAX = "    weights, cache_softmax = softmax(logits)  # (B, H, T, S)\n"
BIAS = "    if bias is not None:\n        logits = logits + bias\n"
SELF = "dx, dcontext = dx + dcontext, None"
TREE = ("PARTS = {", "from tree import map_leaves\n\nPARTS = {")
ROTARY = "rotary.backward(dq, cache_rotary[0]), rotary.backward(dk, cache_rotary[1])"
STEP = "        p -= step\n"
CORRECTED = "mean = (1 - beta1) / (1 - beta1**t)"


def attention(name, check, *edits):
    return Wrong(name, check, {"scaled_dot_product_attention.py": list(edits)})


def heads(name, check, *edits):
    return Wrong(name, check, {"multi_head_attention.py": list(edits)})


def adam(name, check, *edits):
    return Wrong(name, check, {"adam.py": list(edits)})


def block(name, check, *edits):
    return Wrong(name, check, {"transformer_block.py": list(edits)})


WRONG = {
    "scaled_dot_product_attention": [
        attention("no scale", "forward", (SCALE, "scale = 1.0 if scale is None else scale")),
        attention("scaled by D", "forward", ("1 / math.sqrt(D)", "1 / D")),
        attention("the bias is left out", "forward", (BIAS, "")),
        attention(
            "the weights are not transposed in dv",
            "dv",
            ("dv = regroup(kept, G).swapaxes(-1, -2) @ dout", "dv = 0 * v"),
        ),
        attention(
            "the softmax is passed by",
            "dq",
            ("softmax.backward(dweights, cache_softmax)", "dweights"),
        ),
        attention(
            "no scale on the way back",
            "dq",
            ("dlogits = scale * regroup(dlogits, G)", "dlogits = regroup(dlogits, G)"),
        ),
        attention(
            "the queries' scale is not the keys'",
            "dk",
            (" @ regroup(q, G)", " @ regroup(q, G) * scale"),
        ),
        attention(
            "zeros for the keys",
            "dk",
            ("dk = dlogits.swapaxes(-1, -2) @ regroup(q, G)", "dk = 0 * k"),
        ),
        attention(
            "the bias is scaled too",
            "dbias",
            ("sum_to_shape(dlogits, bias.shape)", "sum_to_shape(scale * dlogits, bias.shape)"),
        ),
        attention(
            "a broadcast bias is not summed",
            "dbias",
            ("sum_to_shape(dlogits, bias.shape)", "dlogits"),
        ),
        attention("causal is not looked at", "causal", ("S - T if causal else None", "None")),
        attention(
            "a query does not see itself",
            "causal",
            ("S - T if causal else None", "S - T - 1 if causal else None"),
        ),
        attention(
            "a lower triangle",
            "causal, T and S differ",
            ("S - T if causal else None", "0 if causal else None"),
        ),
        attention(
            "the mask is not looked at", "hidden", ("hide(logits, mask,", "hide(logits, None,")
        ),
        attention(
            "a softmax without a word for rows of -inf",
            "hidden",
            (
                SOFTMAX,
                SOFTMAX + "    weights = np.exp(logits - logits.max(-1, keepdims=True))\n"
                "    weights /= weights.sum(-1, keepdims=True)\n"
                "    cache_softmax = softmax(logits)[1]\n",
            ),
            ("import math\n", "import math\n\nimport numpy as np\n"),
        ),
        attention(
            "weights are masked after the softmax",
            "hidden",
            (HIDE, "    logits = hide(logits, None, S - T if causal else None)\n"),
            (SOFTMAX, SOFTMAX + "    weights = weights if mask is None else weights * mask\n"),
        ),
        attention(
            "the heads of a group take turns",
            "grouped",
            (
                "out = regroup(regroup(kept, G) @ v, H)",
                "out = kept @ v[:, [h % G for h in range(H)]]",
            ),
        ),
        attention(
            "exponentials without a maximum",
            "steep",
            (
                SOFTMAX,
                SOFTMAX + "    w = np.exp(np.where(logits == -np.inf, -1e4, logits))\n"
                "    total = w.sum(-1, keepdims=True)\n"
                "    weights = w / np.where(total > 0, total, 1)\n",
            ),
            ("import math\n", "import math\n\nimport numpy as np\n"),
        ),
        attention(
            "dout is written to",
            "calls",
            ("    return dq, dk, dv, dbias", "    dout *= 2\n    return dq, dk, dv, dbias"),
        ),
        attention(
            "float64 whatever came",
            "calls",
            ("    return out, (q", "    return out.astype(float), (q"),
        ),
    ],
    "multi_head_attention": [
        heads(
            "no bias at the end",
            "forward",
            (
                "linear(join_heads(mixed), W_out, b_out)",
                "linear(join_heads(mixed), W_out, None if b_out is None else 0 * b_out)",
            ),
        ),
        heads(
            "heads without an exchange of axes",
            "forward",
            ("q, k, v = split_heads(q, H)", "q, k, v = q.reshape(len(q), H, -1, q.shape[2] // H)"),
        ),
        heads(
            "always causal",
            "forward",
            (
                "attend(q, k, v, causal=causal, mask=mask)  #",
                "attend(q, k, v, causal=True, mask=mask)  #",
            ),
        ),
        heads(
            "the keys' gradient stands with the values",
            "dparams",
            ("[join_heads(dk), join_heads(dv)]", "[join_heads(dv), join_heads(dk)]"),
        ),
        heads(
            "no gradient for the last layer",
            "dparams",
            ("(dW, db, dW_out, db_out)", "(dW, db, 0 * dW_out, db_out)"),
        ),
        heads("x was read by the queries only", "dx", (SELF, "dx, dcontext = dx, None")),
        heads("x was read by keys and values only", "dx", (SELF, "dx, dcontext = dcontext, None")),
        heads(
            "as many key heads as query heads",
            "grouped",
            (
                "attend(q, k, v, causal=causal, mask=mask)  # (B, H, T, D)",
                "attend(q, k, v, causal=causal)  # (B, H, T, D)",
            ),
        ),
        heads(
            "self attention whatever the context",
            "context",
            ("linear(x if context is None else context, W", "linear(x, W"),
        ),
        heads(
            "the context gets no gradient",
            "context",
            ("(dW, db, dW_out, db_out)), dcontext", "(dW, db, dW_out, db_out)), None"),
        ),
        heads(
            "positions are forgotten",
            "rotary",
            ("rotary(q, positions=positions,", "rotary(q, positions=None,"),
        ),
        heads(
            "turned back the wrong way",
            "rotary",
            (ROTARY, "rotary(dq, base=100.0)[0], rotary(dk, base=100.0)[0]"),
        ),
        heads(
            "dout is written to",
            "calls",
            ("    return dx, put_back(", "    dout *= 2\n    return dx, put_back("),
        ),
    ],
    "adam": [
        adam("uphill", "first update", (STEP, "        p += step\n")),
        adam("no correction of the mean", "first update", (CORRECTED, "mean = 1 - beta1")),
        adam("a new array", "first update", (STEP, "        p = p - step\n")),
        adam(
            "epsilon below the root",
            "first update",
            (
                "denominator = np.sqrt(v, out=scratch)",
                "denominator = np.sqrt(v + (self.eps / root_mean) ** 2, out=scratch)",
            ),
            ("        denominator += self.eps / root_mean\n", ""),
        ),
        adam("no root", "first update", ("np.sqrt(v, out=scratch)", "np.copy(v)")),
        adam("corrected as if always the first", "updates", (CORRECTED, "mean = 1.0")),
        adam(
            "the mean forgets everything", "updates", ("        m *= beta1\n", "        m *= 0\n")
        ),
        adam(
            "squares of the mean",
            "updates",
            (
                "np.multiply(g, g, out=scratch)",
                "np.multiply(m, m, out=scratch) * (1 - beta1 * (t > 1)) ** 2",
            ),
        ),
        adam(
            "the rule's own rate, and not the schedule's",
            "first update",
            ("lr * mean / root_mean", "self.lr * mean / root_mean"),
        ),
        adam(
            "decay is undone",
            "decay",
            (
                "        beta1, beta2 = self.betas\n",
                "        beta1, beta2 = self.betas\n"
                "        if self.decoupled and is_matrix:\n"
                "            p /= 1 - lr * self.weight_decay\n",
            ),
        ),
        adam("the gradient is written to", "in place", (STEP, STEP + "        g *= 2\n")),
        adam(
            "the gradient is scaled in place",
            "first update",
            ("        m += g\n", "        m += g\n        g *= 1 - beta1\n"),
        ),
    ],
    "transformer_block": [
        block("no second sum", "forward", ("return total + thought, ", "return thought, ")),
        block("the straight path is lost", "dx", ("return dx + dx_norm1, ", "return dx_norm1, ")),
        block(
            "the norms' gradients exchanged",
            "dparams",
            ('params["norm1"], norm_names, dnorm1', 'params["norm1"], norm_names, dnorm2'),
        ),
        block(
            "attention has no gradient",
            "dparams",
            (
                '"attention": dattention,',
                '"attention": map_leaves(lambda w: 0 * w, dattention),',
            ),
            TREE,
        ),
        block(
            "GPT-2's block alone",
            "llama",
            (
                "norm_op, add_norm_op, norm_names = NORMS[norm]",
                'norm_op, add_norm_op, norm_names = NORMS["layer"]',
            ),
        ),
        block(
            "float64 whatever came",
            "calls",
            ("return total + thought, ", 'return (total + thought).astype("float64"), '),
        ),
        block(
            "no mask in the rows of training",
            "trained",
            ("        causal=causal,\n", "        causal=causal and x.shape[1] != 32,\n"),
        ),
        block(
            "attention does not learn in the rows of training",
            "trained",
            (
                '"attention": dattention,',
                '"attention": map_leaves(lambda w: (dy.shape[1] != 32) * w, dattention),',
            ),
            TREE,
        ),
    ],
}
