// 05_online.cu   y = softmax(x) along each row; backward: dx = y * (dy - sum(y * dy))
//
// Idea: a row too long for the registers is read twice instead of three times. The maximum and the
//   sum are found in one walk: a thread keeps the largest yet and the sum of exponentials below
//   it, and scales that sum down whenever a larger one comes. Two such pairs combine in the same
//   way, whatever their order, so that the tree over the threads is as before.
// Arithmetic: as in 03, and one more exponential for every VECTOR numbers.
// Bytes: forward 12 a number in fp32 (x twice, y once), backward 20, the second reading from the
//   second-level cache where the rows in flight fit there.
// Share of copy bandwidth at 4096 x 50304 on an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator
// Limits: VECTOR divides columns, and the arrays begin at a multiple of its bytes (else VECTOR=1).
// Source of the idea: Milakov & Gimelshein 2018, arXiv:1805.02867, algorithm 3

#ifndef REAL
#define REAL float
#endif
#ifndef VECTOR
#define VECTOR ((int)(16 / sizeof(REAL)))
#endif
#define MOST_THREADS 512
#define ALL_LANES 0xffffffffu

struct alignas(sizeof(REAL) * VECTOR) Pack {
    REAL item[VECTOR];
};

// The largest score yet, and the sum of exp(score - largest).
struct Running {
    REAL largest, total;
};

// exp(score - largest), where -inf beside -inf counts nothing.
__device__ REAL weight(REAL score, REAL largest)
{
    return exp(score - (largest == (REAL)__int_as_float(0xff800000) ? 0 : largest));
}

__device__ Running merged(Running a, Running b)
{
    const REAL largest = a.largest > b.largest ? a.largest : b.largest;
    return {largest, a.total * weight(a.largest, largest) + b.total * weight(b.largest, largest)};
}

__device__ Running across_warp(Running value)
{
#pragma unroll
    for (int away = 16; away > 0; away /= 2) {
        const Running other = {__shfl_xor_sync(ALL_LANES, value.largest, away),
                               __shfl_xor_sync(ALL_LANES, value.total, away)};
        value = merged(value, other);
    }
    return value;
}

__device__ REAL across_warp(REAL value)
{
#pragma unroll
    for (int away = 16; away > 0; away /= 2) value += __shfl_xor_sync(ALL_LANES, value, away);
    return value;
}

// A value of every thread combined into one that every thread gets; blockDim.x a multiple of 32.
template <class Value>
__device__ Value across_block(Value value, Value nothing)
{
    __shared__ Value of_warp[32];
    value = across_warp(value);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (lane == 0) of_warp[warp] = value;
    __syncthreads();
    value = lane < blockDim.x / 32 ? of_warp[lane] : nothing;
    return across_warp(value);
}

// Grid: a block a row. Block: a multiple of 32 threads, at most MOST_THREADS.
extern "C" __global__ void __launch_bounds__(MOST_THREADS)
    softmax_forward(const REAL* __restrict__ x, REAL* __restrict__ y, int rows, int columns)
{
    const Pack* in = reinterpret_cast<const Pack*>(x + (size_t)blockIdx.x * columns);
    Pack* out = reinterpret_cast<Pack*>(y + (size_t)blockIdx.x * columns);
    const Running nothing = {__int_as_float(0xff800000), 0};

    Running seen = nothing;
    for (int c = threadIdx.x; c < columns / VECTOR; c += blockDim.x) {
        const Pack scores = in[c];
        REAL largest = seen.largest;
#pragma unroll
        for (int v = 0; v < VECTOR; ++v)
            if (scores.item[v] > largest) largest = scores.item[v];
        seen.total *= weight(seen.largest, largest);
        seen.largest = largest;
#pragma unroll
        for (int v = 0; v < VECTOR; ++v) seen.total += weight(scores.item[v], largest);
    }
    seen = across_block(seen, nothing);

    const REAL share = seen.total == 0 ? 0 : 1 / seen.total;
    for (int c = threadIdx.x; c < columns / VECTOR; c += blockDim.x) {
        Pack scores = in[c];
#pragma unroll
        for (int v = 0; v < VECTOR; ++v)
            scores.item[v] = weight(scores.item[v], seen.largest) * share;
        out[c] = scores;
    }
}

extern "C" __global__ void __launch_bounds__(MOST_THREADS)
    softmax_backward(const REAL* __restrict__ y, const REAL* __restrict__ dy,
                     REAL* __restrict__ dx, int rows, int columns)
{
    const Pack* probs = reinterpret_cast<const Pack*>(y + (size_t)blockIdx.x * columns);
    const Pack* upstream = reinterpret_cast<const Pack*>(dy + (size_t)blockIdx.x * columns);
    Pack* out = reinterpret_cast<Pack*>(dx + (size_t)blockIdx.x * columns);

    REAL total = 0;
    for (int c = threadIdx.x; c < columns / VECTOR; c += blockDim.x) {
        const Pack prob = probs[c], above = upstream[c];
#pragma unroll
        for (int v = 0; v < VECTOR; ++v) total += prob.item[v] * above.item[v];
    }
    total = across_block<REAL>(total, 0);

    for (int c = threadIdx.x; c < columns / VECTOR; c += blockDim.x) {
        Pack prob = probs[c];
        const Pack above = upstream[c];
#pragma unroll
        for (int v = 0; v < VECTOR; ++v) prob.item[v] *= above.item[v] - total;
        out[c] = prob;
    }
}
