"""Rotary positions (Su et al. 2021, arXiv:2104.09864, eq. 34): each pair of channels turned.

Bytes: x once in and once out; cos and sin, of (T, D/2), stay in the L2 cache. `turn` also works in
place, on the query and key heads of a packed projection.
"""

import functools

import torch
import triton
import triton.language as tl

from minillm.ops._op import register
from minillm_kernels.arrays import check_grid, on_tensors
from minillm_kernels.triton._attention_configurations import configure, meta
from minillm_kernels.triton._rows import check_integers, check_type
from minillm_kernels.triton._tune import Choice, autotune

__all__ = ["configurations", "rotary", "rotary_backward", "tables", "turn"]

CHOICES = [Choice({"BLOCK_T": 64}, 4, 1), Choice({"BLOCK_T": 32}, 4, 1)]


@autotune(CHOICES, key=["HALF"])
@triton.jit
def turn_kernel(
    x,
    y,
    cos,
    sin,
    T,
    H,
    x_b,
    x_h,
    x_t,
    y_b,
    y_h,
    y_t,
    BACK: tl.constexpr,
    ACC: tl.constexpr,
    HALF: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_T: tl.constexpr,
):
    """y of BLOCK_T positions of one head; BACK turns the other way."""
    tiles = tl.cdiv(T, BLOCK_T)
    # heads of a row lie next to each other in a packed projection, and are done one after the other
    head = tl.program_id(0) % H
    tile = tl.program_id(0) // H % tiles
    batch = (tl.program_id(0) // (H * tiles)).to(tl.int64)
    t = (tile * BLOCK_T + tl.arange(0, BLOCK_T))[:, None]
    i = tl.arange(0, WIDTH)[None, :]
    inside = (t < T) & (i < HALF)
    x += batch * x_b + head.to(tl.int64) * x_h + t.to(tl.int64) * x_t + i
    y += batch * y_b + head.to(tl.int64) * y_h + t.to(tl.int64) * y_t + i
    c = tl.load(cos + t * HALF + i, mask=inside, other=0.0)
    s = tl.load(sin + t * HALF + i, mask=inside, other=0.0)
    if BACK:
        s = -s
    x1 = tl.load(x, mask=inside, other=0.0).to(ACC)
    x2 = tl.load(x + HALF, mask=inside, other=0.0).to(ACC)
    tl.store(y, (x1 * c - x2 * s).to(y.dtype.element_ty), mask=inside)
    tl.store(y + HALF, (x2 * c + x1 * s).to(y.dtype.element_ty), mask=inside)


def turn_arguments(x, y, cos, sin, back):
    _, H, T, D = x.shape
    return {
        "x": x,
        "y": y,
        "cos": cos,
        "sin": sin,
        "T": T,
        "H": H,
        **{f"x_{axis}": stride for axis, stride in zip("bht", x.stride()[:3], strict=True)},
        **{f"y_{axis}": stride for axis, stride in zip("bht", y.stride()[:3], strict=True)},
        "BACK": back,
        "ACC": tl.float64 if x.dtype == torch.float64 else tl.float32,
        "HALF": D // 2,
        "WIDTH": triton.next_power_of_2(D // 2),
    }


def turn(x, cos, sin, *, back=False, out=None):
    """Turn every pair of channels of x (B, H, T, D), of any strides but 1 in the last dimension.

    Parameters
    ----------
    cos, sin : (T, D/2), see `tables`
    back : bool, by the opposite angles
    out : None or (B, H, T, D), x itself too

    Returns
    -------
    out : (B, H, T, D)
    """
    x = x if x.stride(3) == 1 else x.contiguous()
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device) if out is None else out
    if x.numel() == 0:
        return out
    if out.data_ptr() == x.data_ptr():  # measuring would turn x again and again
        return _launch(_in_place, x, out, cos, sin, back)
    return _launch(turn_kernel, x, out, cos, sin, back)


def _launch(kernel, x, out, cos, sin, back):
    B, H, T, _ = x.shape

    def grid(arguments):
        size = (triton.cdiv(T, arguments["BLOCK_T"]) * B * H,)
        check_grid("rotary", size)
        return size

    kernel[grid](**turn_arguments(x, out, cos, sin, back))
    return out


_in_place = autotune(CHOICES[:1], key=["HALF"])(turn_kernel.kernel)


def tables(positions, T, D, base, like):
    """cos and sin of every position's angles: (T, D/2) each, float64 for float64, else float32."""
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    if positions is None:
        return _counted(T, D // 2, float(base), dtype, like.device)
    return _tables(positions.to(like.device), D // 2, float(base), dtype)


@functools.lru_cache(maxsize=8)
def _counted(T, half, base, dtype, device):
    return _tables(torch.arange(T, device=device), half, base, dtype)


def _tables(positions, half, base, dtype):
    exponents = torch.arange(half, device=positions.device, dtype=torch.float64) / max(half, 1)
    angle = positions.double()[:, None] * base**-exponents
    return angle.cos().to(dtype), angle.sin().to(dtype)


@on_tensors
def rotary(x, *, positions=None, base=10000.0):
    check_type("rotary", x=x)
    if x.ndim != 4 or x.shape[-1] % 2:
        raise ValueError(f"x must have shape (B, H, T, D) with D even, got {tuple(x.shape)}")
    check_positions(positions, x.shape[2])
    cos, sin = tables(positions, x.shape[2], x.shape[3], base, x)
    return turn(x, cos, sin), (cos, sin)


@on_tensors.backward
def rotary_backward(dy, saved):
    cos, sin = saved
    return turn(dy, cos, sin, back=True)


def check_positions(positions, T):
    if positions is None:
        return
    check_integers("rotary", "positions", positions)
    if positions.shape != (T,):
        raise ValueError(f"positions must have shape ({T},), got {tuple(positions.shape)}")


def configurations():
    found = []
    for dtype, D, arches in (
        (torch.bfloat16, 64, (80, 90)),
        (torch.float16, 128, (75,)),
        (torch.float32, 80, (90,)),
    ):
        x, cos = meta(2, 4, 64, D, dtype=dtype), meta(64, D // 2, dtype=torch.float32)
        arguments = turn_arguments(x, x, cos, cos, False)
        name = f"turn {dtype} D={D}".replace("torch.", "")
        found += [configure(name, turn_kernel, arguments, c, arches) for c in CHOICES]
    return found


register("rotary", "triton", rotary, rotary_backward)
