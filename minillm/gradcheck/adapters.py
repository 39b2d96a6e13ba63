"""torch's functions and modules: what autograd returns, against differences of the forward.

A `torch.autograd.Function` brings a backward written by hand; a function or an nn.Module may hold
such Functions anywhere inside. torch is imported when one comes to be checked.

Left out: double backward, see torch.autograd.gradgradcheck; half precision and complex numbers.
"""

import copy

from minillm.gradcheck.graph import Graph, Refused
from minillm.gradcheck.mistakes import of_contract
from minillm.gradcheck.problem import Problem
from minillm.gradcheck.replay import replay_line
from minillm.gradcheck.report import FAIL, LeafResult, Report
from minillm.gradcheck.run import Setting, run

__all__ = ["check_module", "check_torch"]


def check_torch(function, args, kwargs=None, *, names=None, **options):
    """Check what autograd returns for a torch function against differences of its forward.

    Parameters
    ----------
    function : a torch.autograd.Function subclass, or any function of tensors that returns a tensor
        or a nest of them; for an nn.Module see `check_module`
    args : sequence of tensors, nests of them, NumPy arrays (made into tensors), None, constants;
        float32 and float64 ones are differentiated, whether or not they require a gradient
    kwargs : keyword arguments, not differentiated; copied before each call
    names, **options : as for `check_vjp`

    Returns
    -------
    Report

    Raises
    ------
    ImportError
        without torch.
    ValueError
        for half or complex tensors, or a function that returns no tensor; what function itself
        raises passes through.

    Notes
    -----
    Each forward finds torch's random numbers in the state that `seed` gives, each backward in
    another one; the global state stays as it was. autograd sums a gradient that is too broad to its
    input's shape and casts it to its dtype, so that these two slips are none here.
    """
    torch = _torch("check_torch")
    if isinstance(function, torch.nn.Module):
        raise ValueError("check_torch takes a function; use check_module(module, args)")
    by_hand = isinstance(function, type) and issubclass(function, torch.autograd.Function)
    if not by_hand and (isinstance(function, type) or not callable(function)):
        what = getattr(function, "__name__", None) or type(function).__name__
        raise ValueError(f"check_torch takes a function or a torch.autograd.Function, got {what}")
    if by_hand and kwargs:
        raise ValueError(f"{function.__name__}.apply takes no keyword arguments, got {[*kwargs]}")
    subject = getattr(function, "__name__", None) or type(function).__name__
    graph = Graph(torch, subject, function.apply if by_hand else function, by_hand)
    graph.named(args, names, *_signature(torch, function, by_hand))
    line = replay_line(f"check_torch({subject}", args, kwargs, names, options)
    return _checked(graph, kwargs, options, line)


def check_module(module, args, kwargs=None, *, names=None, **options):
    """Check what autograd returns for an nn.Module, for its inputs and all its parameters.

    Parameters
    ----------
    module : torch.nn.Module, checked in the mode (train or eval) that it is in, on a copy; every
        evaluation begins with its buffers as they are
    args : sequence of forward's inputs, as for `check_torch`
    kwargs : keyword arguments of forward, not differentiated
    names : the inputs' names; those of module.forward by default. A parameter is called `params.`
        and its own name; one that is tied has its first
    **options : as for `check_vjp`

    Returns
    -------
    Report

    Raises
    ------
    ImportError
        without torch.
    ValueError
        for half or complex tensors, parameters that have no shape yet, or a forward that returns
        no tensor; what forward itself raises passes through.
    """
    torch = _torch("check_module")
    if not isinstance(module, torch.nn.Module):
        what = getattr(module, "__name__", None) or type(module).__name__
        raise ValueError(f"check_module takes an nn.Module (an object of it), got {what}")
    lazy = [name for name, p in module.named_parameters() if torch.nn.parameter.is_lazy(p)]
    if lazy:
        raise ValueError(f"run the module once, {', '.join(lazy)} have no shape yet")
    subject, module = type(module).__name__, _copied(module)
    buffers = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}

    def call(*args, **kwargs):
        *inputs, params = args
        state = params | {name: buffer.clone() for name, buffer in buffers.items()}
        return torch.func.functional_call(module, state, tuple(inputs), kwargs)

    graph = Graph(torch, subject, call)
    graph.named(args, names, module.forward)
    graph.args.append({name: graph.tensors(name, p) for name, p in module.named_parameters()})
    graph.names.append("params")
    line = replay_line(f"check_module({subject.lower()}", args, kwargs, names, options)
    return _checked(graph, kwargs, options, line)


def _checked(graph, kwargs, options, line):
    """The report of a check; one that says so where autograd took a gradient for unusable."""
    setting = Setting.of(options)
    graph.seed = setting.seed
    problem = Problem(graph.forward, graph.backward, graph.args, kwargs, graph.names)
    try:
        with graph.recording():
            return run(problem, graph.subject, setting, line)
    except Refused as refused:
        finding = refused.finding
        report = Report(graph.subject, setting.seed, setting.scope, replay=line)
        report.leaves = [
            LeafResult(leaf.name, leaf.value.shape, leaf.dtype, FAIL)
            for leaf in problem.leaves
            if finding.leaf in (None, leaf.name)
        ]
        report.contract = [finding]
        report.diagnoses = of_contract([finding], None) if setting.diagnose else []
        report.evaluations, report.backwards = problem.evaluations, problem.backwards
        return report


def _torch(caller):
    try:
        import torch
    except ImportError as error:
        message = f"{caller} needs PyTorch: pip install torch (or see https://pytorch.org)"
        raise ImportError(message) from error
    return torch


def _signature(torch, function, by_hand):
    """The function whose parameters are the arguments, and how many to skip: a Function's ctx."""
    if not by_hand:
        return function, 0
    alone = function.setup_context is torch.autograd.Function.setup_context
    return function.forward, int(alone)


def _copied(module):
    """A copy, so that state outside of the buffers is the copy's; the module where there is none.

    A module that holds the result of a computation, as torch.nn.utils.weight_norm leaves it, can't
    be copied.
    """
    try:
        return copy.deepcopy(module)
    except Exception:
        return module
