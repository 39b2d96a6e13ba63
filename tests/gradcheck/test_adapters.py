import copy
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from minillm.gradcheck import check_module, check_torch, draw


def verdicts(report):
    return {leaf.name: leaf.verdict for leaf in report.leaves}


def rules(report):
    return [(finding.rule, finding.leaf) for finding in report.contract]


def doubles(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Scaled(torch.autograd.Function):
    """y = gain * x^power; the twins below override backward."""

    @staticmethod
    def forward(ctx, x, gain, power):
        ctx.save_for_backward(x, gain)
        ctx.power = power
        return gain * x**power

    @staticmethod
    def backward(ctx, dy):
        x, gain = ctx.saved_tensors
        dx = dy * gain * ctx.power * x ** (ctx.power - 1)
        return dx, (dy * x**ctx.power).sum(0), None


ARGS = (*draw((3, 4), 4), 3)


# --- functions


def test_a_right_function_passes():
    report = check_torch(Scaled, ARGS)
    assert report.passed, report
    assert verdicts(report) == {"x": "pass", "gain": "pass"}
    assert report.subject == "Scaled"
    assert report.evaluations <= 12 + 4 * 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tensors_serve_as_numpy_arrays_do(dtype):
    x, gain = (torch.from_numpy(a) for a in draw((3, 4), 4, dtype=dtype))
    report = check_torch(Scaled, [x.T.clone().T, gain.requires_grad_(), 3])
    assert report.passed, report
    assert {leaf.dtype for leaf in report.leaves} == {dtype}
    assert gain.grad is None


def wrong_backward(backward):
    return type(backward.__name__, (Scaled,), {"backward": staticmethod(backward)})


@wrong_backward
def half_gain(ctx, dy):
    dx, dgain, _ = Scaled.backward(ctx, dy)
    return dx, dgain / 2, None


@wrong_backward
def power_forgotten(ctx, dy):
    dx, dgain, _ = Scaled.backward(ctx, dy)
    return dx / ctx.power, dgain, None


@wrong_backward
def nothing_for_gain(ctx, dy):
    return Scaled.backward(ctx, dy)[0], None, None


@wrong_backward
def ones_upstream(ctx, dy):
    return Scaled.backward(ctx, torch.ones_like(dy))


@pytest.mark.parametrize(
    ("function", "leaf"),
    [
        (half_gain, "gain"),
        (power_forgotten, "x"),
        (nothing_for_gain, "gain"),
    ],
)
def test_a_wrong_function_fails_where_it_is_wrong(function, leaf):
    report = check_torch(function, ARGS)
    failed = [name for name, verdict in verdicts(report).items() if verdict == "fail"]
    assert failed == [leaf]
    assert report.contract == []


def test_an_ignored_upstream_gradient_is_found():
    report = check_torch(ones_upstream, ARGS)
    assert rules(report) == [("not linear", "x"), ("not linear", "gain")]


@wrong_backward
def wrong_shape(ctx, dy):
    return Scaled.backward(ctx, dy)[0], dy[:, :3].sum(0), None


@wrong_backward
def too_few(ctx, dy):
    return Scaled.backward(ctx, dy)[:2]


@wrong_backward
def a_number(ctx, dy):
    return Scaled.backward(ctx, dy)[0], 0.0, None


@wrong_backward
def written_in_place(ctx, dy):
    x, _ = ctx.saved_tensors
    with torch.no_grad():
        x.mul_(2)
    return Scaled.backward(ctx, dy)


@pytest.mark.parametrize(
    ("function", "rule", "leaf", "words"),
    [
        (wrong_shape, "shape", "gain", "the gradient of gain must have shape (4,), got (3,)"),
        (too_few, "structure", None, "incorrect number of gradients (expected 3, got 2)"),
        (a_number, "structure", None, "got float"),
    ],
)
def test_what_autograd_refuses_is_a_report(function, rule, leaf, words):
    report = check_torch(function, ARGS)
    assert report.verdict == "fail"
    assert rules(report) == [(rule, leaf)]
    assert words in str(report)
    assert report.diagnoses
    assert verdicts(report) == dict.fromkeys([leaf] if leaf else ["x", "gain"], "fail")


def test_a_gradient_that_autograd_sums_itself_is_right():
    """The note in check_torch: a missing sum over a broadcast axis is mended by torch."""

    @wrong_backward
    def unsummed(ctx, dy):
        x, _ = ctx.saved_tensors
        return Scaled.backward(ctx, dy)[0], dy * x**ctx.power, None

    assert check_torch(unsummed, ARGS).passed


def test_saved_tensors_written_to_by_backward_are_found():
    report = check_torch(written_in_place, ARGS)
    assert report.verdict == "fail"
    assert {rule for rule, _ in rules(report)} & {"cache spent", "mutates"}


def test_a_cache_that_serves_once_is_found():
    class Once(Scaled):
        @staticmethod
        def forward(ctx, x, gain, power):
            out = Scaled.forward(ctx, x, gain, power)
            ctx.stack = [x]
            return out

        @staticmethod
        def backward(ctx, dy):
            ctx.stack.pop()
            return Scaled.backward(ctx, dy)

    report = check_torch(Once, ARGS)
    assert rules(report) == [("cache spent", None)]
    assert set(verdicts(report).values()) == {"pass"}


def test_a_backward_that_writes_to_its_upstream_gradient_is_found():
    @wrong_backward
    def writes(ctx, dy):
        grads = Scaled.backward(ctx, dy.clone())
        dy.mul_(2)
        return grads

    assert ("mutates", None) in rules(check_torch(writes, ARGS))


def test_a_function_that_writes_to_its_input_unmarked_is_found():
    class Writes(Scaled):
        @staticmethod
        def forward(ctx, x, gain, power):
            x.mul_(2)
            return Scaled.forward(ctx, x, gain, power)

    assert ("mutates", "x") in rules(check_torch(Writes, ARGS))


def test_a_function_that_marks_its_input_dirty_is_let_be():
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)
            return x.mul_(2)

        @staticmethod
        def backward(ctx, dy):
            return 2 * dy

    x = doubles(2, 3)
    kept = x.clone()
    assert check_torch(Doubled, [x]).passed
    assert torch.equal(x, kept)


def test_setup_context_and_outputs_marked_as_constants():
    class Parted(torch.autograd.Function):
        @staticmethod
        def forward(x, factor):
            return factor * x, (x > 0).to(x.dtype), x.argmax(-1)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.factor = inputs[1]
            ctx.mark_non_differentiable(*output[1:])

        @staticmethod
        def backward(ctx, dy, dmask, dplace):
            return ctx.factor * dy, None

    report = check_torch(Parted, [doubles(3, 4), 2.5])
    assert report.passed
    assert verdicts(report) == {"x": "pass"}


def test_functions_of_nests_with_ids_and_several_outputs():
    def looked_up(params, ids, *, scale):
        rows = params["tables"][0][ids] * scale
        return {"rows": rows, "more": (rows.sin() @ params["w"], ids)}

    params = {"tables": [doubles(5, 4)], "w": doubles(4, 3, seed=1)}
    ids = torch.tensor([[0, 2, 2], [4, 1, 0]])
    report = check_torch(looked_up, [params, ids], {"scale": torch.tensor(0.5)})
    assert report.passed, report
    assert verdicts(report) == {"params.tables.0": "pass", "params.w": "pass"}


def test_named_outputs():
    class Pair(NamedTuple):
        a: torch.Tensor
        b: torch.Tensor

    assert check_torch(lambda x: Pair(x.exp(), x.cumsum(0)), [doubles(5)]).passed
    assert check_torch(lambda x: x.sort(0), [doubles(5)]).passed


def test_a_part_cut_off_by_detach_fails():
    assert verdicts(check_torch(lambda x: x * x.detach(), [doubles(4)])) == {"x": "fail"}
    assert verdicts(check_torch(lambda x: x.detach() ** 2, [doubles(4)])) == {"x": "fail"}


def test_no_grad_around_the_check_does_no_harm():
    with torch.no_grad():
        assert check_torch(Scaled, ARGS).passed
    with torch.inference_mode():
        x = doubles(3, 4)
        assert check_torch(torch.tanh, [x]).passed


def test_a_sparse_gradient_is_compared():
    ids = torch.tensor([1, 1, 3])

    def looked_up(weight):
        return nn.functional.embedding(ids, weight, sparse=True)

    assert check_torch(looked_up, [doubles(5, 2)]).passed


# --- randomness


class Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mask = (torch.rand_like(x) < 0.5).to(x.dtype)
        return x * ctx.mask

    @staticmethod
    def backward(ctx, dy):
        return dy * ctx.mask


class DroppedTwice(Dropped):
    @staticmethod
    def backward(ctx, dy):
        return dy * (torch.rand_like(dy) < 0.5)


def test_dropout_repeats_and_the_global_state_stays():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    assert check_torch(Dropped, [doubles(6, 5)], seed=7).passed
    assert torch.equal(torch.get_rng_state(), state)


def test_a_mask_drawn_again_in_backward_fails():
    assert verdicts(check_torch(DroppedTwice, [doubles(6, 5)])) == {"x": "fail"}


def test_a_generator_is_copied():
    generator = torch.Generator().manual_seed(1)
    state = generator.get_state()

    def noisy(x, *, generator):
        return x * torch.rand(x.shape, generator=generator, dtype=x.dtype)

    assert check_torch(noisy, [doubles(3, 4)], {"generator": generator}).passed
    assert torch.equal(generator.get_state(), state)


def test_numpy_randomness_is_not_deterministic():
    rng = np.random.default_rng(0)
    report = check_torch(lambda x: x * rng.standard_normal(), [doubles(3)])
    assert rules(report)[0] == ("not deterministic", None)


# --- modules


def untouched(module, *args, **options):
    """check_module's report, and proof that module is as it was."""
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, 0.25)
    state = copy.deepcopy(module.state_dict())
    flags = [p.requires_grad for p in module.parameters()]
    mode, rng = [m.training for m in module.modules()], torch.get_rng_state()
    report = check_module(module, *args, **options)
    now = module.state_dict()
    assert now.keys() == state.keys()
    assert all(torch.equal(now[key], state[key]) for key in state)
    assert all(torch.equal(p.grad, torch.full_like(p, 0.25)) for p in module.parameters())
    assert [p.requires_grad for p in module.parameters()] == flags
    assert [m.training for m in module.modules()] == mode
    assert torch.equal(torch.get_rng_state(), rng)
    return report


def network():
    torch.manual_seed(0)
    layers = [nn.Linear(4, 5), nn.GELU(), nn.BatchNorm1d(5), nn.Dropout(0.3), nn.Linear(5, 2)]
    return nn.Sequential(*layers).double()


@pytest.mark.parametrize("training", [True, False])
def test_a_network_passes_and_is_left_alone(training):
    report = untouched(network().train(training), draw((6, 4)))
    assert report.passed, report
    assert [leaf.name for leaf in report.leaves] == [
        "input",
        *(f"params.{i}.{kind}" for i in (0, 2, 4) for kind in ("weight", "bias")),
    ]


def test_a_module_in_float32():
    report = untouched(nn.Sequential(nn.Linear(4, 3), nn.Tanh()), draw((5, 4), dtype="float32"))
    assert report.passed, report


def test_ids_are_no_leaf():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Embedding(7, 3), nn.Linear(3, 2)).double()
    report = untouched(module, [torch.tensor([[1, 1, 4], [0, 6, 2]])])
    assert report.passed
    assert report.leaves[0].name == "params.0.weight"


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(6, 4)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids, shift=None, *, factor=1.0):
        x = self.table(ids)
        return factor * self.head(x if shift is None else x + shift).tanh()


def test_tied_parameters_are_one_leaf():
    torch.manual_seed(0)
    module = Tied().double()
    ids = torch.tensor([[0, 3, 3]])
    report = untouched(module, [ids], {"factor": 2.0})
    assert verdicts(report) == {"params.table.weight": "pass"}
    report = untouched(module, [ids, doubles(1, 3, 4)])
    assert verdicts(report) == {"shift": "pass", "params.table.weight": "pass"}


def test_a_recurrent_module_with_a_state():
    torch.manual_seed(0)
    module = nn.LSTM(3, 4, batch_first=True).double()
    x, h, c = draw((2, 3, 3), (1, 2, 4), (1, 2, 4))
    report = untouched(module, [x, (h, c)])
    assert report.passed, report
    parameters = [f"params.{name}" for name, _ in module.named_parameters()]
    assert [leaf.name for leaf in report.leaves] == ["input", "hx.0", "hx.1", *parameters]


def test_operations_in_place_that_autograd_knows_of():
    module = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3)).double()
    x = doubles(5, 4)
    kept = x.clone()
    assert untouched(module, [x]).passed
    assert torch.equal(x, kept)


def test_a_parameter_written_behind_autograds_back_is_found():
    module = nn.Embedding(6, 4, max_norm=0.5).double()
    report = untouched(module, [torch.tensor([0, 1, 5])])
    assert ("mutates", "params.weight") in rules(report)


class Holding(nn.Module):
    """Keeps what it should not: a counter as an attribute, a buffer that it replaces."""

    def __init__(self, kept):
        super().__init__()
        self.kept, self.count = kept, 1.0
        self.register_buffer("mean", torch.zeros(4, dtype=torch.float64))

    def forward(self, x):
        self.mean = 0.5 * self.mean + 0.5 * x.mean(0)
        if self.kept:
            self.count += 1
        return self.count * (x - self.mean)


def test_a_replaced_buffer_is_put_back():
    assert untouched(Holding(False), [doubles(3, 4)]).passed


def test_state_outside_of_the_buffers_is_found_and_not_changed():
    module = Holding(True)
    report = untouched(module, [doubles(3, 4)])
    assert ("not deterministic", None) in rules(report)
    assert module.count == 1.0


def test_a_wrong_function_inside_a_module_is_found_by_its_parameter():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.gain = nn.Parameter(torch.rand(4))

        def forward(self, x):
            return half_gain.apply(self.first(x), self.gain, 2)

    torch.manual_seed(0)
    report = untouched(Layer().double(), [doubles(3, 4)])
    failed = [name for name, verdict in verdicts(report).items() if verdict == "fail"]
    assert failed == ["params.gain"]


def test_what_autograd_refuses_inside_a_module():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(4))

        def forward(self, x):
            return wrong_shape.apply(x, self.gain, 2)

    report = untouched(Layer().double(), [doubles(3, 4)])
    assert rules(report) == [("shape", None)]
    assert "got [3] but expected shape compatible with [4]" in str(report)


class Spare(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.spare = nn.Linear(3, 2), nn.Linear(3, 2)
        self.used.weight.requires_grad_(False)

    def forward(self, x):
        return self.used(x)


def test_frozen_and_unused_parameters():
    module = Spare().double()
    report = untouched(module, [doubles(4, 3)])
    spare = {"params.spare.weight", "params.spare.bias"}
    assert {leaf.name for leaf in report.leaves if leaf.reason == "no influence"} == spare
    assert verdicts(report)["params.used.weight"] == "pass"
    assert untouched(module, [doubles(4, 3)], allow_zero=sorted(spare)).passed


def test_a_module_that_cannot_be_copied():
    module = nn.Linear(3, 2).double()
    module.trace = module(doubles(1, 3))  # the result of a computation
    with pytest.raises(RuntimeError):
        copy.deepcopy(module)
    assert untouched(module, [doubles(4, 3)]).passed


# --- mistakes of the caller


class Nothing(nn.Module):
    def forward(self, x):
        return None


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (lambda: check_torch(nn.Linear(2, 2), [doubles(2)]), "use check_module"),
        (lambda: check_torch(nn.Linear, [doubles(2)]), "got Linear"),
        (lambda: check_torch(3, [doubles(2)]), "got int"),
        (lambda: check_torch(torch.tanh, doubles(2)), "args must be a sequence.*got a tensor"),
        (lambda: check_torch(torch.tanh, [doubles(2)], names=("a", "b")), "names must hold 1"),
        (lambda: check_torch(Scaled, ARGS[:2], {"power": 3}), "no keyword arguments.*power"),
        (lambda: check_torch(torch.tanh, [doubles(2).half()]), "float16.*float32 or float64"),
        (lambda: check_torch(torch.tanh, [doubles(2).bfloat16()]), "bfloat16"),
        (lambda: check_torch(torch.abs, [doubles(2) + 1j]), "complex128"),
        (lambda: check_torch(torch.fft.fft, [doubles(4)]), "fft_fft: the output is complex128"),
        (lambda: check_torch(lambda x: x.half(), [doubles(2)]), "the output is float16"),
        (lambda: check_torch(lambda x: x.argmax(), [doubles(2)]), "got int64"),
        (lambda: check_torch(lambda x: x.tolist(), [doubles(2)]), "got list"),
        (lambda: check_torch(lambda x: x.numpy(force=True), [doubles(2)]), "got ndarray"),
        (lambda: check_torch(torch.tanh, [torch.arange(3)]), "nothing to differentiate"),
        (lambda: check_torch(torch.tanh, [doubles(2, 2).to_sparse()]), "only dense tensors"),
        (lambda: check_torch(torch.tanh, [doubles(2)], seed=-1), "seed must be"),
        (lambda: check_module(torch.tanh, [doubles(2)]), "got tanh"),
        (lambda: check_module(nn.Tanh, [doubles(2)]), "got Tanh"),
        (lambda: check_module(nn.Linear(2, 2).half(), [doubles(2)]), "weight is float16"),
        (lambda: check_module(nn.LazyLinear(2), [doubles(3)]), "run the module once.*weight"),
        (lambda: check_module(Nothing(), [doubles(3)]), "Nothing must return.*got NoneType"),
    ],
)
def test_mistakes_of_the_caller_are_named(check, words):
    with pytest.raises(ValueError, match=words):
        check()


def test_all_outputs_marked_as_constants():
    class Sign(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            out = x.sign()
            ctx.mark_non_differentiable(out)
            return out

        @staticmethod
        def backward(ctx, dy):
            return None

    with pytest.raises(ValueError, match="float64, marked as not differentiable"):
        check_torch(Sign, [doubles(3)])


@pytest.mark.parametrize("check", [check_torch, check_module])
def test_without_torch_one_is_told_what_to_install(check, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=f"{check.__name__} needs PyTorch: pip install torch"):
        check(None, [])


def test_the_checker_imports_no_torch():
    code = "import sys, minillm.gradcheck; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_the_function_raises_passes_through():
    with pytest.raises(RuntimeError, match="must match the size of tensor b"):
        check_torch(Scaled, [doubles(3, 4), doubles(5), 2])

    @wrong_backward
    def slip(ctx, dy):
        raise KeyError("missing")

    with pytest.raises(KeyError, match="missing"):
        check_torch(slip, ARGS)


def test_the_replay_line_runs():
    report = check_torch(half_gain, [*draw((2, 3), 3), 2], seed=4)
    assert report.replay.startswith("check_torch(half_gain, (np.array(")
    again = eval(report.replay, {"check_torch": check_torch, "half_gain": half_gain, "np": np})
    assert str(again) == str(report)
    module = nn.Linear(3, 2).double()
    report = check_module(module, draw((4, 3)), scope="full")
    again = eval(report.replay, {"check_module": check_module, "linear": module, "draw": draw})
    assert str(again) == str(report)
