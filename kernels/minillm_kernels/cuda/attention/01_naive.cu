// 01_naive.cu   out = softmax(scale * q @ k.T) @ v and its gradients, all (T, S) weights in memory
//
// Idea: the formula as it is written, a kernel for each of its three steps and a thread for each
//   number (softmax: for each row). Backward goes the same way back, step by step.
// Arithmetic: 4 B H T S D operations forward, 8 B H T S D backward (half as many are of use if
//   causal).
// Bytes: each weight is written three times and read four times, 28 B H T S bytes besides q, k, v
//   and out: 9 operations a byte at D = 64. And it takes memory for B H T S numbers, which is what
//   ends long texts first.
// Share of torch's attention in fp32, forward, length 4096 on an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator
// Source of the idea: Vaswani et al. 2017, arXiv:1706.03762, eq. 1
//
// Shapes, all C-contiguous: q (B, H, T, D), k (B, G, S, D), v (B, G, S, V), out (B, H, T, V). Query
// head h reads key/value head h / (H / G). Query t sees the keys s <= t + diagonal: S - T if causal
// (the last query sees all keys), S - 1 if not. A mask is bool (B, H, T, S); its strides are
// numbers of elements, 0 along an axis that is broadcast. A query that sees no key gets zeros.

#ifndef REAL
#define REAL float // double for the gradient checker
#endif
#ifndef MASK
#define MASK 0 // 1: the kernels look into a mask
#endif
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000) // NVRTC has no math.h
#endif

struct Index {
    long long b, h, t, s; // of one number of (B, H, T, S)
};

__device__ Index index_of(long long n, int H, int T, int S)
{
    return {n / S / T / H, n / S / T % H, n / S % T, n % S};
}

__device__ long long thread_number() { return (long long)blockIdx.x * blockDim.x + threadIdx.x; }

__device__ REAL dot(const REAL *a, const REAL *b, int length)
{
    REAL sum = 0;
    for (int i = 0; i < length; ++i) sum += a[i] * b[i];
    return sum;
}

// One thread a logit: weights[b, h, t, s] = scale * q[b, h, t] . k[b, g, s], -inf where hidden.
extern "C" __global__ void naive_logits(
    long long count, const REAL *q, const REAL *k, const bool *mask, long long mask_b,
    long long mask_h, long long mask_t, long long mask_s, REAL *weights, int H, int G, int T, int S,
    int D, int diagonal, REAL scale)
{
    const long long n = thread_number();
    if (n >= count) return;
    const Index at = index_of(n, H, T, S);
    bool seen = at.s <= at.t + diagonal;
    if (MASK) seen = seen && mask[at.b * mask_b + at.h * mask_h + at.t * mask_t + at.s * mask_s];
    const REAL *query = q + n / S * D;
    const REAL *key = k + ((at.b * G + at.h / (H / G)) * S + at.s) * D;
    weights[n] = seen ? scale * dot(query, key, D) : -REAL(INFINITY);
}

// One thread a row: logits become weights in place.
extern "C" __global__ void naive_softmax(
    long long rows, REAL *weights, int S)
{
    const long long n = thread_number();
    if (n >= rows) return;
    REAL *row = weights + n * S;
    REAL peak = -REAL(INFINITY), total = 0;
    for (int s = 0; s < S; ++s) peak = row[s] > peak ? row[s] : peak;
    if (peak == -REAL(INFINITY)) peak = 0; // sees no key: -inf - -inf would be no number
    for (int s = 0; s < S; ++s) total += row[s] = exp(row[s] - peak);
    for (int s = 0; s < S; ++s) row[s] = total == 0 ? 0 : row[s] / total;
}

// One thread a number of out: out[b, h, t, c] = sum over s of weights[b, h, t, s] * v[b, g, s, c].
extern "C" __global__ void naive_mix(
    long long count, const REAL *weights, const REAL *v, REAL *out, int H, int G, int T, int S,
    int V)
{
    const long long n = thread_number();
    if (n >= count) return;
    const Index at = index_of(n, H, T, V); // at.s is the channel
    const REAL *row = weights + n / V * S;
    const REAL *values = v + (at.b * G + at.h / (H / G)) * S * V + at.s;
    REAL sum = 0;
    for (int s = 0; s < S; ++s) sum += row[s] * values[(long long)s * V];
    out[n] = sum;
}

// out = weights @ v: one thread a weight, dweights[b, h, t, s] = dout[b, h, t] . v[b, g, s].
extern "C" __global__ void naive_dweights(
    long long count, const REAL *dout, const REAL *v, REAL *dweights, int H, int G, int T, int S,
    int V)
{
    const long long n = thread_number();
    if (n >= count) return;
    const Index at = index_of(n, H, T, S);
    const REAL *value = v + ((at.b * G + at.h / (H / G)) * S + at.s) * V;
    dweights[n] = dot(dout + n / S * V, value, V);
}

// weights = softmax(logits): one thread a row, dweights become dlogits in place.
extern "C" __global__ void naive_dsoftmax(
    long long rows, const REAL *weights, REAL *dweights, int S)
{
    const long long n = thread_number();
    if (n >= rows) return;
    const REAL *row = weights + n * S;
    REAL *drow = dweights + n * S;
    const REAL shared = dot(row, drow, S);
    for (int s = 0; s < S; ++s) drow[s] = row[s] * (drow[s] - shared);
}

// logits = scale * q @ k.T: one thread a number of dq.
extern "C" __global__ void naive_dq(
    long long count, const REAL *dlogits, const REAL *k, REAL *dq, int H, int G, int T, int S,
    int D, REAL scale)
{
    const long long n = thread_number();
    if (n >= count) return;
    const Index at = index_of(n, H, T, D);
    const REAL *row = dlogits + n / D * S;
    const REAL *keys = k + (at.b * G + at.h / (H / G)) * S * D + at.s;
    REAL sum = 0;
    for (int s = 0; s < S; ++s) sum += row[s] * keys[(long long)s * D];
    dq[n] = scale * sum;
}

// One thread a number of dk or dv, which sums over all queries of all heads that read it:
// total[b, g, s, c] = scale * sum over h, t of pairs[b, h, t, s] * rows[b, h, t, c].
// dk: pairs are dlogits, rows q; dv: pairs are weights, rows dout, scale 1.
extern "C" __global__ void naive_dkv(
    long long count, const REAL *pairs, const REAL *rows, REAL *total, int H, int G, int T, int S,
    int D, REAL scale)
{
    const long long n = thread_number();
    if (n >= count) return;
    const Index at = index_of(n, G, S, D); // at.t is the key, at.s the channel
    const int group = H / G;
    REAL sum = 0;
    for (int i = 0; i < group; ++i) {
        const long long head = at.b * H + at.h * group + i;
        for (long long t = head * T; t < (head + 1) * T; ++t)
            sum += pairs[t * S + at.t] * rows[t * D + at.s];
    }
    total[n] = scale * sum;
}
