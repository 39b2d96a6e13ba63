# %% [markdown]
# # 12. Matmul on a GPU
#
# Nearly all of a GPT's arithmetic is matrix products. This repository has one written for a GPU in
# ten ways that do the same additions and multiplications; the simplest takes six lines, the most
# elaborate nearly three hundred. **What do the long ones buy, if not less arithmetic?**
# The answer is bytes: how many move for each operation. Here every byte is counted, line by line
# of the kernel, and drawn.
#
# You need the matrix product and enough C to read a loop; CUDA is explained. Reading takes about
# 45 minutes, running less than one. No GPU is needed: the kernels are compiled by g++ and run by
# [an emulator](../docs/emulator.md), which counts what they do. It cannot tell how long a GPU
# would take, so **no time in this notebook is a GPU's** unless it runs on a machine that has one:
# then the same cells use it, through CuPy.

# %%
import re
import textwrap
import time

import numpy as np
from matplotlib.colors import ListedColormap
from threadpoolctl import threadpool_limits

from minillm.errors import UserError
from minillm.training import track
from minillm.viz.memory_traffic import (
    bank_accesses,
    bytes_text,
    traffic,
    traffic_by_rung,
    warp_accesses,
)
from minillm.viz.roofline import GPUS, Machine, roofline
from minillm.viz.source import show_source
from minillm.viz.style import COLOURS, new_figure
from minillm_kernels import emulator
from minillm_kernels.climb import watch
from minillm_kernels.cuda.matmul import (
    COALESCED,
    NAIVE,
    REGISTER_TILE,
    RUNGS,
    SHARED_TILE,
    VECTORISED,
    matmul,
)
from minillm_kernels.emulator import EmulatorError, checking
from minillm_kernels.emulator.build import find_compiler
from minillm_kernels.require import require_gpu

try:
    find_compiler()  # the emulator needs g++
except UserError as error:
    raise SystemExit(str(error)) from None
try:
    require_gpu("cupy", minimum=(7, 5))
    import cupy as xp
    from cupy import RawModule

    GPU = xp.cuda.runtime.getDeviceProperties(0)["name"].decode()
except UserError:
    xp, RawModule, GPU = np, emulator.RawModule, None

rng = np.random.default_rng(0)
print("kernels run on", GPU or "the CPU, in the emulator")

# %% [markdown]
# ## The mathematics
#
# ### The roofline
#
# $C = AB$ with $A$ of $M \times K$ and $B$ of $K \times N$ numbers takes a multiplication and an
# addition for each of $MNK$ terms,
#
# $$F = 2MNK \text{ operations}, \qquad Q \ge 4\,(MK + KN + MN) \text{ bytes,}$$
#
# where $Q$ is what moves between memory and processor: at float32 each matrix has to pass once at
# least. A processor has a peak rate $P$ (operations a second), its memory a bandwidth $\beta$
# (bytes a second), and both can work at the same time. So the time is at least the longer of
# $F/P$ and $Q/\beta$, and the rate at most
#
# $$\frac{F}{\text{time}} \;\le\; \min\left(P,\; I\,\beta\right), \qquad I = \frac{F}{Q}.$$
#
# $I$ is the **arithmetic intensity**, in operations a byte. Drawn over $I$ on logarithmic axes the
# bound is a slope that ends in a level: the *roofline* (Williams, Waterman & Patterson 2009). Left
# of the bend, at $I = P/\beta$, memory decides; right of it, arithmetic. Adding two arrays has
# $I = 1/12$ (read 8 bytes, write 4, for one addition) however it is written. A product of square
# matrices that moves each once has $I = 2N^3 / 12N^2 = N/6$: it can be made to lie to the right.
#
# First a core of the CPU that you sit at. The next cell times two computations that stream through
# large arrays and four products by NumPy's BLAS. The fastest product is taken for the level, the
# fastest stream (reading an array for its sum of squares is tried too) for the slope. Expect the
# first two near the slope and the products higher, the larger the nearer to the level.


# %% tags=["timing"]
def seconds(run, tries=7):
    """The shortest of a few tries."""
    taken = []
    for _ in range(tries):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)


def square(n):
    return rng.standard_normal((n, n), dtype=np.float32)


wide, other = rng.standard_normal((2, 16_000_000), dtype=np.float32)  # 64 MB each
matrix, vector = wide.reshape(4000, 4000), other[:4000]
with threadpool_limits(1):  # one core: several wait for one another, and blur the picture
    measured = {
        "a + b": (1 / 12, wide.size / seconds(lambda: np.add(wide, other, out=other))),
        "matrix @ vector": (1 / 2, 2 * wide.size / seconds(lambda: matrix @ vector)),
    }
    for n in (8, 32, 128, 512):
        pairs = rng.standard_normal((max(1, 4**11 // n**3), 2, n, n), dtype=np.float32)
        took = seconds(lambda pairs=pairs: [np.matmul(x, y) for x, y in pairs]) / len(pairs)
        measured[f"product, n = {n}"] = n / 6, 2 * n**3 / took
    reading = 4 * wide.size / seconds(lambda: np.dot(wide, wide))
streams = [rate / intensity for intensity, rate in measured.values() if intensity < 1]
cpu = Machine(
    "one core of the CPU at hand",
    {"fastest product": max(rate for _, rate in measured.values())},
    {"fastest stream": max(reading, *streams)},
)
bend = max(cpu.rates.values()) / max(cpu.bandwidths.values())
print(f"the bend lies at {bend:.0f} FLOP a byte")

# %% tags=["picture", "timing"] alt="Roofline of a CPU core with six measured computations: two streams on the left, near the slope, products of growing size to their right, the largest at the level and the smallest far below."
roofline(cpu, measured)

# %% [markdown]
# `a + b` and the product with a vector sit low on the left: no cleverer arithmetic would lift them,
# because their bytes have to move. (Writing costs more than reading, so `a + b` may lie below the
# slope.) The products are to the right of them, and the large ones near the level. Those of 8 x 8
# are far below both roofs: what they wait for is neither bytes nor arithmetic, but Python, which
# calls once for each. (A product may even lie above the slope, which is the memory's: matrices as
# small as these stay in a cache.) Every figure varies from machine to machine, and a busy machine
# lowers it.
#
# ### Tiles
#
# A GPU has the same picture with larger numbers. As NVIDIA publishes them, for float32 arithmetic
# without tensor cores:

# %%
for gpu in GPUS.values():
    rate, bandwidth = gpu.rates["fp32"], next(iter(gpu.bandwidths.values()))
    print(f"{gpu.name:22} {rate / 1e12:5.1f} TFLOP/s  {bandwidth / 1e12:6.3f} TB/s", end="  ")
    print(f"bend at {rate / bandwidth:4.1f} FLOP a byte\n    {gpu.source}")

# %% [markdown]
# So a kernel has to do ten to thirty operations for each byte that it takes from memory. Square
# matrices of some hundred rows offer that ($N/6$), *if* each number moves once. But whoever
# multiplies has to hold what is used again close by, and there is no room for whole matrices.
#
# Cut $C$ into tiles of $b_M \times b_N$. For one tile we need $b_M$ rows of $A$ and $b_N$ columns
# of $B$, which is $(b_M + b_N) K$ numbers; and there are $MN / (b_M b_N)$ tiles. Together
#
# $$Q = 4 MNK \left(\frac1{b_M} + \frac1{b_N}\right) + 4MN, \qquad
# I \approx \frac{1}{2\,(1/b_M + 1/b_N)} .$$
#
# A tile of $1 \times 1$, each number of $C$ by itself, has $I = 1/4$. Square tiles of $b$ have
# $I = b/4$: 8 for $b = 32$, 32 for $b = 128$. **Twice the tile, half the traffic.** The rest of
# this notebook is about how a GPU can hold the larger tile.
#
# ### Threads, warps, blocks
#
# A CUDA *kernel* is a C function that very many *threads* run, each with its own `threadIdx`.
# Threads come in *blocks*, blocks in a *grid*. The threads of a block can share memory and wait
# for one another. The hardware runs 32 neighbouring threads of a block together, as a *warp*, one
# instruction at a time: when a warp reads memory, its 32 threads, or *lanes*, ask for 32 addresses
# at once.
#
# Which 32? The ten kernels are the rungs of a ladder, 01 to 10. The lowest two give every thread
# one number of $C$, in blocks of 32 x 8 threads, and differ only in the way round. Both are drawn
# below: a piece of $C$, one block's share in orange, its first warp's in blue.


# %% tags=["picture"] alt="The first warp covers a column of C in rung 01 and a row in rung 02."
def who_computes_what(panels, size=64):
    figure = new_figure(7.4, 4.4)
    both = figure.subplots(1, 2, sharey=True)
    for axes, (name, (rows, columns)) in zip(both, panels.items(), strict=True):
        y, x = np.mgrid[:size, :size]
        state = (y // rows + x // columns) % 2
        state[:rows, :columns] = 2
        warp = state[:rows, :columns]
        (warp[:, 0] if rows == 32 else warp[0])[...] = 3
        shades = ListedColormap(["#f4f4f4", "#dddddd", "#f6c9a8", COLOURS[0]])
        axes.pcolormesh(state, cmap=shades, edgecolors="white", linewidth=0.2)
        axes.set(title=name, xlabel="column of C", aspect="equal", ylim=(size, 0))
        axes.tick_params(length=0)
        where = (columns + 1, rows - 1) if rows == 32 else (1, rows + 3)
        axes.text(*where, "one block, its first warp in blue", fontsize=9, backgroundcolor="white")
    both[0].set_ylabel("row of C")
    return figure


who_computes_what({"01_naive": (32, 8), "02_coalesced": (8, 32)})

# %% [markdown]
# In 01 the 32 threads of a warp lie below one another, in 02 side by side. At step $k$ each thread
# reads $A_{\text{row},k}$ and $B_{k,\text{col}}$.
#
# **Global memory moves in sectors of 32 bytes**, eight float32. A warp's request takes every
# sector that any of its 32 addresses $a$ lies in, $\lfloor a/32 \rfloor$. The next picture shows
# the four requests of one step in a matrix of 32 x 64 numbers: blue was asked for, orange had to
# come along. Count the sectors before you read the numbers below.

# %% tags=["picture"] alt="Rung 01 reads 32 sectors of A a step, rung 02 one of A and four of B."
lane, k, row, col = np.arange(32), 13, 5, 5
warp_accesses(
    {
        "01 reads A[row][k]": lane * 64 + k,
        "01 reads B[k][col]": np.full(32, k * 64 + col),
        "02 reads A[row][k]": np.full(32, row * 64 + k),
        "02 reads B[k][col]": k * 64 + lane,
    },
    shape=(32, 64),
)

# %% [markdown]
# Rung 01 wants 32 different rows of $A$ at once: 32 sectors, of which an eighth is used. Its other
# read is one number for all lanes. In 02 it is $A$ that is one number for all, and the 32 of $B$
# are neighbours, 4 sectors with nothing wasted: the access is *coalesced*. So a step should cost
# $32 + 1 = 33$ sectors in 01 and $1 + 4 = 5$ in 02, for the same 32 products. (A GPU's caches
# will give some of the 32 sectors a second life. They are small, and many warps want them.)
#
# ## The code
#
# Here is rung 01 as it stands. The header says what to expect; `REAL` is `float`.

# %%
show_source(NAIVE.path)

# %% [markdown]
# A kernel is compiled and launched with a grid and a block. These lines are CuPy's, and the
# emulator takes the same: on a machine with a GPU `RawModule` is CuPy's and `xp` is CuPy.

# %%
n = 64
a, b = (xp.asarray(square(n)) for _ in range(2))
c = xp.zeros((n, n), np.float32)
kernel = RawModule(code=NAIVE.path.read_text()).get_function("matmul")
sizes, strides = [np.int32(n)] * 3, [np.int64(n)] * 3
kernel((n // 8, n // 32), (32, 8), (a, b, c, *sizes, *strides))
print(f"largest difference to a @ b: {float(abs(c - a @ b).max()):.1e}")

# %% [markdown]
# Inside `checking()` the emulator watches every access and puts the lanes' addresses together
# again as the requests of whole warps. A report that ends a cell shows the kernel with the counts
# at its lines: sectors for each request, and in brackets the fewest that could hold the bytes. The
# line of the products makes two requests, 32 and 1: expect a mean of 16.5.

# %%
report = watch(NAIVE, 64)
report

# %%
for rung in (NAIVE, COALESCED):
    products = max(watch(rung, 64).lines, key=lambda line: line.transfers)
    print(f"{rung.name}: {products.transfers / (products.requests / 2):.0f} sectors a step")

# %% [markdown]
# As predicted, and by exchanging `x` and `y`. What 02 still does is read every number of $A$ and
# $B$ again for every warp that needs it: its tile is one row of 32.
#
# ### Shared memory: rung 03
#
# Each block has some tens of kilobytes of *shared* memory next to the arithmetic. So the block
# fetches a tile of 32 x 32 of $A$ and one of $B$, every thread one number of each; then all 1024
# threads take their 32 products from there; then the next pair of tiles.

# %%
show_source(SHARED_TILE.path, lines=(22, 42))

# %% [markdown]
# The two `__syncthreads()` are barriers: nobody passes before all threads of the block have come.
# Without the first, a warp may multiply numbers that another has not yet written; without the
# second, it may overwrite numbers that another still needs. On a GPU such a mistake shows only
# when one warp happens to overtake another. The checker needs no luck: it looks for two accesses,
# at least one of them a write, that nothing orders. Leave either barrier out:


# %%
def launch(source, a, b, *, grid, block, seed=0, options=()):
    """Run a kernel `matmul` in the emulator, watched: (its result, the report)."""
    (M, K), N = a.shape, b.shape[1]
    c = np.zeros((M, N), np.float32)
    function = emulator.RawModule(code=source, options=options).get_function("matmul")
    with checking(seed=seed) as report:
        numbers = [np.int32(x) for x in (M, N, K)] + [np.int64(x) for x in (K, N, N)]
        function(grid, block, (a, b, c, *numbers))
    return c, report


source = SHARED_TILE.path.read_text()
barriers = [match.start() for match in re.finditer(r"__syncthreads\(\);", source)]
a, b = square(64), square(64)
for which, at in zip(("first", "second"), barriers, strict=True):
    broken = source[:at] + source[at:].replace("__syncthreads();", "", 1)
    c, report = launch(broken, a, b, grid=(2, 2), block=(32, 32))
    print(f"without the {which}: {len(report.findings)} findings; right: {np.allclose(c, a @ b)}")
    print(
        textwrap.fill(str(report.findings[0]), 92, initial_indent="    ", subsequent_indent="    ")
    )

# %% [markdown]
# Each finding names the writing and the reading line, two threads that meet there, and what is
# missing between them. (Threads of one warp count too: since Volta nothing promises that a warp's
# lanes keep step.) The numbers were wrong here as well, but a test of numbers alone would depend
# on the order in which threads happened to run.
#
# ### Banks
#
# Shared memory has a rule of its own: its 4-byte words are dealt out over 32 **banks**, word $i$
# to bank $i \bmod 32$. In one turn (a *wavefront*) each bank gives one word, to as many lanes as
# want that word. Lanes that want different words of one bank wait. Rung 06 stores its tile of $A$
# transposed, so that the four numbers that a thread needs are neighbours; there two lanes hold
# $k = 0$ and $k = 4$ of one row, and go to words $i$ and $4p + i$, $p$ being the row's length.
# With rows of 128 words both fall into bank $i$. The file has 132. The picture has both, a row for
# every 32 words.

# %% tags=["picture"] alt="With rows of 128 words pairs of lanes share a bank, with 132 none do."
position, pair = lane // 2, lane % 2 * 4
bank_accesses(
    {f"rows of {p} words": pair * p + position for p in (128, 132)},
    title="a warp of rung 06 writes its tile of A",
)

# %% [markdown]
# On the left two words wait in each of 16 banks, and the other 16 have nothing to do: two turns.
# On the right every bank has one word. Does the emulator count that? One macro decides:

# %%
for pad in (0, 4):
    text = VECTORISED.path.read_text().replace("#define PAD 4", f"#define PAD {pad}")
    _, report = launch(text, square(128), square(128), grid=(1, 1), block=(256,))
    store = next(i for i, line in enumerate(text.splitlines(), 1) if "As[a_k + i]" in line)
    (count,) = report.counts(store)
    print(f"PAD {pad}: {count.per_request:g} turns a request\n    {count}")

# %% [markdown]
# ### Registers: from rung 04 on
#
# In 03 each multiply-add still takes two reads of shared memory, and a warp can have one of those
# in the time of several multiply-adds. The next level is the registers, a thread's own. If a thread
# computes $t_M \times t_N$ numbers of $C$, a step of $k$ needs $t_M + t_N$ reads for $t_M t_N$
# multiply-adds: for $8 \times 8$ that is $16/64 = 0.25$ instead of 2. It is the law of the tiles
# again, one floor up: the block's tile saves global memory, the thread's tile shared memory.

# %%
lines = REGISTER_TILE.path.read_text().splitlines()
first = next(i for i, line in enumerate(lines, 1) if "for (int k = 0; k < BK" in line)
show_source(REGISTER_TILE.path, lines=(first - 1, first + 11))

# %% [markdown]
# The other rungs, an idea each:
#
# | rung | idea |
# |---|---|
# | 06 | move 16 bytes an instruction (`float4`) |
# | 07 | give each warp a compact part of the tile, and fetch the next tiles while multiplying |
# | 08 | tensor cores on float16, by WMMA: an instruction multiplies 16 x 16 matrices |
# | 09 | tensor cores by PTX (`mma.sync`), copies that run beside the arithmetic (`cp.async`) |
# | 10 | Hopper's `wgmma` on whole tiles, fetched by a copy engine (TMA) |
#
# `python -m minillm_kernels ladder matmul` prints them with their counts. Up to 08 they run in
# the emulator; 09 and 10 need the GPU.
#
# ## An experiment: the ladder, counted
#
# Seven kernels multiply the same two matrices of 256 x 256. By the law of the tiles, $Q$ should be
# $4N^3(1/b_M + 1/b_N) + 4N^2$. For the first two the tile is what a *warp* takes at once, and
# waste comes on top: 33 or 5 sectors of 32 bytes for each 32 products.

# %%
N = 256
reports = {rung.name: watch(rung, N) for rung in track(RUNGS[:7], "rungs")}
tiles = [None, None, (32, 32), (64, 64), (128, 128), (128, 128), (128, 128)]
print("rung                  predicted       counted   FLOP a byte   shared requests")
for (name, report), tile, per_step in zip(reports.items(), tiles, (33, 5, *[0] * 5), strict=True):
    read = 4 * N**3 * sum(1 / side for side in tile) if tile else 32 * per_step * N**3 / 32
    written = 4 * N * N * (8 if name == "01_naive" else 1)  # 01 writes a column: 32 sectors too
    counted = traffic(report)["global_bytes"]
    requests = sum(line.requests for line in report.lines if line.memory == "shared")
    print(f"{name:20} {bytes_text(read + written):>10} {bytes_text(counted):>13}", end="")
    print(f" {2 * N**3 / counted:13.2f} {requests:17,}")

# %% tags=["picture"] alt="Bytes of global and turns of shared memory fall from rung 01 to 07."
traffic_by_rung(reports)

# %% [markdown]
# Predictions and counts agree. Look at the left: one scale step is a factor of ten, and from 01 to
# 05 the bytes fall to a few thousandths. The orange line of 01 is what its scattered reads waste.
# On the right: 04 and 05 do not only need less global memory, they take fewer turns of shared
# memory. 06 and 07 move what 05 does. Their gain is in the table's last column, about four times
# fewer *requests* for the same bytes, and in the order of work, which no count shows.
#
# ## An experiment: under a GPU's roof
#
# Each rung's intensity as counted can be held against a GPU's published figures. Read it with
# care: **nothing here was timed.** The marks are hollow and say "≤", at most: what the roofs would
# allow if every counted sector came from the GPU's memory. Caches can lift a rung above that, since
# many sectors are asked for again and again; waiting, and instructions other than multiply-adds,
# pull every rung below.

# %% tags=["picture"] alt="Roofline of an H100 with the rungs where their counted intensity lies."
intensity = {name: 2 * N**3 / traffic(report)["global_bytes"] for name, report in reports.items()}
by_place = {}
for name, value in intensity.items():
    by_place.setdefault(round(value, 2), []).append(name[:2])
points = {", ".join(names): (value, None) for value, names in by_place.items()}
points["each matrix moved once"] = N / 6, None
roofline(GPUS["H100"], points, title=f"{GPUS['H100'].name}, {N} x {N} product: upper bounds")

# %% [markdown]
# By their traffic alone 01 and 02 lie far below the level, and only caches can help them; tiles of
# 128 pass the bend of float32 by themselves. From there on bytes from memory no longer decide, and
# the rungs after 05 work on what does: shared memory, instructions, waiting. Far above is the roof
# of the tensor cores, with a bend at some hundreds of operations a byte: the fast arithmetic has
# made bytes dearer still, which is why 09 and 10 have tiles of 128 x 256 of 2-byte numbers and
# hardware that does nothing but copy.
#
# On a machine with a GPU the next cell times the rungs on it; without one it says so.

# %% tags=["timing"]
if GPU is None:
    print("no GPU here: nothing to time")
else:
    size = 2048
    a, b = (xp.asarray(square(size)) for _ in range(2))
    rates = {}
    for rung in RUNGS[:7]:
        matmul(a, b, rung=rung)  # compiles
        start, stop = xp.cuda.Event(), xp.cuda.Event()
        start.record()
        for _ in range(5):
            matmul(a, b, rung=rung)
        stop.record()
        stop.synchronize()
        took = xp.cuda.get_elapsed_time(start, stop) / 1e3 / 5
        rates[rung.name] = 2 * size**3 / took
        print(f"{rung.name:20} {rates[rung.name] / 1e12:8.3f} TFLOP/s on {GPU}")

# %% [markdown]
# ## Exercises
#
# ### 1. Predict the traffic, edges included
#
# The law above divides as if every tile were full. What does a tiled kernel really move, in bytes,
# when $M$ and $N$ are no multiples of the tile? It reads nothing outside the matrices. The check
# holds your formula to the emulator's counts of rung 04, whose tiles are 64 x 64.


# %% tags=["exercise"] exercise="tiled_traffic"
def tiled_traffic(M, N, K, rows, columns):
    """Bytes that a kernel with tiles of rows x columns of C moves, reading and writing, float32.

    Parameters
    ----------
    M, N, K : int, the sizes of the product; N and K are multiples of 8, so sectors are full
    rows, columns : int, of a tile

    Returns
    -------
    moved : int
    """
    raise NotImplementedError("how often is each row of A read? each column of B?")


# %% tags=["check", "raises-exception"] exercise="tiled_traffic"
for M, N_, K in ((64, 64, 64), (96, 80, 40), (65, 136, 8), (10, 200, 24)):
    a, b = (rng.standard_normal(s, dtype=np.float32) for s in ((M, K), (K, N_)))
    with checking() as counted:
        matmul(a, b, rung=4)
    expected = traffic(counted)["global_bytes"]
    came = tiled_traffic(M, N_, K, 64, 64)
    assert came == expected, (
        f"M, N, K = {M}, {N_}, {K}: the emulator counts {expected} bytes, your formula {came}. "
        "A tile at the edge reads whole rows of A, however few columns of C it has"
    )
print("right: and this is what a GPU's caches are asked for")

# %% [markdown]
# ### 2. Mend a race
#
# This kernel turns 64 numbers into their running sums: in step $s = 1, 2, 4, \dots$ each adds the
# number $s$ places before it (Hillis & Steele 1986). As it stands it has races. Return it mended,
# with all 64 threads at work: which barriers does it need, and where?

# %%
RUNNING_SUMS = r"""
extern "C" __global__ void running_sums(float *x) {
    __shared__ float sums[64];
    int t = threadIdx.x;
    sums[t] = x[t];
    for (int s = 1; s < 64; s *= 2) {
        if (t >= s) sums[t] += sums[t - s];
    }
    x[t] = sums[t];
}
"""


def run_sums(source, x, seed):
    x = x.copy()
    function = emulator.RawModule(code=source).get_function("running_sums")
    with checking(seed=seed) as report:
        function((1,), (64,), (x,))
    return x, report


run_sums(RUNNING_SUMS, np.ones(64, np.float32), seed=0)[1]


# %% tags=["exercise"] exercise="mended"
def mended(source):
    """The text of the kernel without a race; `source` is RUNNING_SUMS.

    `source.replace(old, new)` will do, or write the kernel anew.
    """
    raise NotImplementedError("who reads sums[t - s] while its owner writes it?")


# %% tags=["check", "raises-exception"] exercise="mended"
text = mended(RUNNING_SUMS)
assert isinstance(text, str), f"mended must return the kernel's text, got {type(text).__name__}"
assert "__syncthreads" in text, "threads that work together need a barrier: none is in the text"
x = rng.integers(0, 100, 64).astype(np.float32)
for seed in range(3):
    try:
        came, report = run_sums(text, x, seed)
    except EmulatorError as error:
        raise AssertionError(
            f"it does not run: {error}\nA barrier is for all threads of a block: none may miss it"
        ) from None
    assert not report.findings, (
        f"{report.findings[0]}\nReading and writing in one step are two things: every thread has "
        "to have read before any writes, and to have written before any reads again"
    )
    assert np.array_equal(came, np.cumsum(x)), f"no race, but not the running sums: {came[:8]}..."
print("right, with", text.count("__syncthreads"), "barriers in the text; two are enough")

# %% [markdown]
# ### 3. Halve the traffic
#
# Rung 04 has tiles of 64 x 64, read 8 columns at a time, and threads with 8 numbers each. Find
# macros with which it reads **at most half as much** of $A$ and $B$, with no more than 8 KB of
# shared memory and 1024 threads. The file's `static_assert` has a word to say; read its first
# lines. The check counts.

# %%
show_source(RUNGS[3].path, lines=(14, 25))


# %% tags=["exercise"] exercise="half_traffic"
def half_traffic():
    """New values for rung 04's macros: {"BM": ..., "BN": ..., "BK": ..., "TM": ...}."""
    raise NotImplementedError("which of the four stand in the law of the tiles?")


# %% tags=["check", "raises-exception"] exercise="half_traffic"
chosen = half_traffic()
text = RUNGS[3].path.read_text()
for name, value in chosen.items():
    text = re.sub(rf"#define {name} \d+", f"#define {name} {value}", text)
BM, BN, BK, TM = (int(re.search(rf"#define {m} (\d+)", text)[1]) for m in ("BM", "BN", "BK", "TM"))
shared, threads = 4 * BK * (BM + BN), BM * BN // TM
assert shared <= 8192, f"{chosen}: {shared} bytes of shared memory, allowed are 8192"
assert threads <= 1024, f"{chosen}: {threads} threads a block, allowed are 1024"
a, b = square(256), square(256)
try:
    c, report = launch(text, a, b, grid=(-(-256 // BN), -(-256 // BM)), block=(threads,))
except EmulatorError as error:
    raise AssertionError(f"{chosen} does not run: {error}") from None
assert not report.findings, f"{chosen}: {report.findings[0]}"
assert np.allclose(c, a @ b, atol=1e-3), f"{chosen}: not the product; do all numbers get copied?"
written = 4 * 256**2
before = traffic(reports["04_register_column"])["global_bytes"] - written
after = traffic(report)["global_bytes"] - written
assert after <= before / 2, (
    f"{chosen}: {bytes_text(after)} read, at most {bytes_text(before / 2)} wanted. "
    "Q depends on 1 / BM + 1 / BN. BK says how often, not how much, as long as the rows of A that "
    "are fetched fill sectors: 8 numbers"
)
print(f"right: {bytes_text(before)} became {bytes_text(after)}, {shared} bytes of shared memory")

# %% [markdown]
# ### 4. Write a tiled kernel
#
# Now from an empty page: a kernel `tiled` in CUDA C, launched with blocks of 16 x 16 threads and
# enough of them to cover $C$: `blockIdx.x` counts tiles along a row of $C$, `blockIdx.y` those below
# one another. The matrices lie row by row, without gaps. The kernel must be right for any sizes,
# have no finding, and read from global memory what tiles of 16 x 16 should. The idea of 03 is what
# you need; do it without looking first.


# %% tags=["exercise"] exercise="tiled"
def tiled():
    """CUDA C of: extern "C" __global__ void tiled(const float *A, const float *B, float *C,
    int M, int N, int K), with A (M, K), B (K, N), C (M, N) and blockDim (16, 16).
    """
    raise NotImplementedError("two tiles in shared memory, two barriers, zeros beyond the edges")


# %% tags=["check", "raises-exception"] exercise="tiled"
try:
    function = emulator.RawModule(code=tiled()).get_function("tiled")
    for M, N_, K in ((16, 16, 16), (33, 17, 21), (1, 40, 5), (64, 64, 64)):
        a, b = (rng.standard_normal(s, dtype=np.float32) for s in ((M, K), (K, N_)))
        c = np.full((M, N_), np.nan, np.float32)
        with checking(seed=M) as report:
            numbers = [np.int32(x) for x in (M, N_, K)]
            function((-(-N_ // 16), -(-M // 16)), (16, 16), (a, b, c, *numbers))
        assert not report.findings, f"M, N, K = {M}, {N_}, {K}: {report.findings[0]}"
        assert np.allclose(c, a @ b, atol=1e-4), f"M, N, K = {M}, {N_}, {K}: not the product"
except EmulatorError as error:
    raise AssertionError(f"it does not run: {error}") from None
moved, expected = traffic(report)["global_bytes"], 4 * 64**3 * (2 / 16) + 4 * 64**2
assert moved <= 1.01 * expected, (
    f"right, but it moves {bytes_text(moved)} where tiles of 16 x 16 need {bytes_text(expected)}: "
    "every number should come from global memory once a tile"
)
print(f"right: {bytes_text(moved)} moved, as tiles of 16 x 16 should")

# %% [markdown]
# ## Where to go next
#
# [13. FlashAttention](13_flash_attention.ipynb) does to attention what tiles do to the product: it
# never writes the large matrix in the middle down.
#
# - The kernels' page, [docs/kernels.md](../docs/kernels.md), and the emulator's,
#   [docs/emulator.md](../docs/emulator.md), with eleven mistakes to find;
#   `python -m minillm_kernels ladder matmul 07` shows a rung with its counts.
# - The same op as the models know it: [linear](../docs/derivations/linear.md).
# - S. Williams, A. Waterman, D. Patterson, *Roofline: an insightful visual performance model for
#   multicore architectures*, CACM 52(4), 2009.
# - V. Volkov, J. Demmel, *Benchmarking GPUs to tune dense linear algebra*, SC 2008: why registers.
# - W. D. Hillis, G. L. Steele, *Data parallel algorithms*, CACM 29(12), 1986.
# - NVIDIA, *CUDA C++ Programming Guide* and *Best Practices Guide*: sectors, banks, barriers.
