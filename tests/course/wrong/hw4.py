"""Wrong solutions of hw4."""

from tests.course.wrong import Wrong


def edit(file):
    def made(name, check, *edits):
        return Wrong(name, check, {f"{file}.py": list(edits)})

    return made


rnn_cell, rnn, lstm_cell, lstm = map(edit, ("rnn_cell", "rnn", "lstm_cell", "lstm"))
RETURN = 'return da @ params["weight_x"].T, da @ params["weight_h"].T, dparams'
STATE = '{"h": da @ params["weight_h"].T, "c": dc}'
SUM = "            add_into(dweights, dstep)\n"
CARRY = "rnn_cell.backward(dh + dy[:, t], steps[t])"

WRONG = {
    "rnn_cell": [
        rnn_cell("the bias is left out", "forward", (' + params["bias"])', ")")),
        rnn_cell("the slope of tanh is left out", "dx", ("dh_new * (1 - h_new**2)", "dh_new")),
        rnn_cell("the slope is one less h", "dx", ("(1 - h_new**2)", "(1 - h_new)")),
        rnn_cell(
            "the weight is not transposed",
            "dh",
            ('da @ params["weight_h"].T', 'da @ params["weight_h"]'),
        ),
        rnn_cell("h' in the place of h", "dweight_h", ("h.T @ da", "h_new.T @ da")),
        rnn_cell("a mean over the batch", "dweight_x", ("x.T @ da", "x.T @ da / len(x)")),
        rnn_cell("a bias for each row", "dbias", ("da.sum(0)", "da")),
        rnn_cell(
            "dh is written to",
            "calls",
            ("    da = dh_new * (1 - h_new**2)", "    dh_new *= 1 - h_new**2\n    da = dh_new"),
        ),
    ],
    "rnn": [
        rnn(
            "the state is forgotten",
            "forward",
            (
                "            h, step = rnn_cell(x[:, t], h, weights)",
                "            h, step = rnn_cell(x[:, t], 0 * h, weights)",
            ),
        ),
        rnn(
            "nothing is handed on", "dx", (CARRY, "rnn_cell.backward(dy[:, t] + 0 * dh, steps[t])")
        ),
        rnn(
            "the outputs' gradient only at the last step",
            "dx",
            ("dh + dy[:, t]", "dh + dy[:, t] * (t == len(steps) - 1)"),
        ),
        rnn(
            "inputs in reverse order",
            "dx",
            ("np.stack(dxs[::-1], axis=1)", "np.stack(dxs, axis=1)"),
        ),
        rnn(
            "the first step is not reached by the state",
            "dstate",
            (
                "        dstate[layer] = dh\n",
                "        dstate[layer] = dh if len(steps) < 2 else 0\n",
            ),
        ),
        rnn(
            "zeros for a state that was not given",
            "dstate",
            ("dstate if state_given else None", "dstate"),
        ),
        rnn("the last step's weights alone", "dweight_x", (SUM, "            dweights = dstep\n")),
        rnn(
            "a mean over the steps",
            "dweight_h",
            (
                SUM,
                SUM + "            dweights['weight_h'] -= dstep['weight_h'] * (len(steps) > 1)\n",
            ),
        ),
        rnn(
            "the bias of one step",
            "dbias",
            (SUM, SUM + "            dweights['bias'] = dstep['bias']\n"),
        ),
        rnn(
            "every layer gets the gradient of the outputs",
            "layers",
            ("dy, dxs = dx, []", "dy, dxs = given(dout[0], y), []"),
        ),
        rnn(
            "the layers' gradients in the order of the loop",
            "layers",
            ("dparams.insert(0, dweights)", "dparams.append(dweights)"),
        ),
        rnn(
            "dy is written to",
            "calls",
            (CARRY, "rnn_cell.backward(np.add(dh, dy[:, t], out=dy[:, t]), steps[t])"),
        ),
    ],
    "lstm_cell": [
        lstm_cell("forget and input exchanged", "forward", ("f * c + i * g", "i * c + f * g")),
        lstm_cell(
            "the gates in another order",
            "forward",
            ("a_i, a_f, a_g, a_o = np", "a_i, a_f, a_o, a_g = np"),
        ),
        lstm_cell("c' is no output", "dx", ("dc_new = dc_new + dh_new", "dc_new = dh_new")),
        lstm_cell(
            "c' is not read by h'",
            "dx",
            ("dc_new = dc_new + dh_new * o * (1 - tanh_c**2)", "dc_new = 1 * dc_new"),
        ),
        lstm_cell(
            "the candidate's slope is a sigmoid's", "dx", ("dg * (1 - g**2)", "dg * g * (1 - g)")
        ),
        lstm_cell("the weight of the input for h", "dh", (STATE, '{"h": dh_new * o, "c": dc}')),
        lstm_cell(
            "the memory goes through the input gate",
            "dc",
            ("dc_new * c, dc_new * f", "dc_new * c, dc_new * i"),
        ),
        lstm_cell("h' in the place of h", "dweight_h", ("h.T @ da", "(o * tanh_c).T @ da")),
        lstm_cell("a mean over the batch", "dweight_x", ("x.T @ da", "x.T @ da / len(x)")),
        lstm_cell("half of the bias, as torch has two", "dbias", ("da.sum(0)", "da.sum(0) / 2")),
        lstm_cell(
            "float64 whatever came",
            "calls",
            ("    df, dc =", "    dc_new = dc_new.astype(float)\n    df, dc ="),
        ),
    ],
    "lstm": [
        lstm(
            "the memory is forgotten",
            "forward",
            (
                "lstm_cell(x[:, t], now, weights)",
                'lstm_cell(x[:, t], now | {"c": 0 * now["c"]}, weights)',
            ),
        ),
        lstm(
            "the outputs' gradient only at the last step",
            "dx",
            ('dnow["h"] + dy[:, t]', 'dnow["h"] + dy[:, t] * (t == len(steps) - 1)'),
        ),
        lstm(
            "the memory is not handed on",
            "dx",
            ('"c": dnow["c"]}\n', '"c": dnow["c"] * (t == len(steps) - 1)}\n'),
        ),
        lstm(
            "the last memory's gradient is ignored",
            "dx",
            (
                "dend = {key: given(dend[key], end[key]) for key in end}",
                'dend = {"h": given(dend["h"], end["h"]), "c": np.zeros_like(end["c"])}',
            ),
        ),
        lstm("h and c exchanged", "dh", ('dnow["h"], dnow["c"]\n', 'dnow["c"], dnow["h"]\n')),
        lstm("the initial memory gets none", "dc", ('dnow["h"], dnow["c"]\n', 'dnow["h"], 0\n')),
        lstm(
            "the last step's weights alone",
            "dweight_x",
            ("            add_into(dweights, dstep)\n", "            dweights = dstep\n"),
        ),
        lstm(
            "the last step is not counted",
            "dweight_h",
            (
                "            add_into(dweights, dstep)\n",
                "            part = {k: v for k, v in dstep.items() if k != 'weight_h' or t}\n"
                "            add_into(dweights, part)\n",
            ),
        ),
        lstm(
            "the bias of one step",
            "dbias",
            (
                "            add_into(dweights, dstep)\n",
                "            add_into(dweights, dstep)\n"
                "            dweights['bias'] = dstep['bias']\n",
            ),
        ),
        lstm(
            "every layer gets the gradient of the outputs",
            "layers",
            ("dy, dxs = dx, []", "dy, dxs = given(dout[0], y), []"),
        ),
        lstm(
            "dy is written to",
            "calls",
            ('{"h": dnow["h"] + dy[:, t]', '{"h": np.add(dnow["h"], dy[:, t], out=dy[:, t])'),
        ),
    ],
}
