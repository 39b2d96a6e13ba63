// 02_online_softmax.cu   attention in one pass over the keys, without the (T, S) weights
//
// Idea: a warp walks once along the keys with one query. It keeps the largest logit so far and the
//   sums of weights and of weighted values below that peak; when the peak rises, what was summed
//   fades by exp(old - new). Only log(sum(exp(logits))) of each query is kept for backward, which
//   makes each weight again: exp(logit - log_sum). Lane i holds the channels i, i + 32, ...
// Arithmetic: 4 B H T S D operations forward, 14 B H T S D backward (01: 8): q k.T and dout v.T are
//   made twice, once for dq and once for dk and dv.
// Bytes: each warp reads all keys and values, 8 S D of them a query: half an operation a byte, but
//   from the L2 cache where a head's keys fit; nothing of size T S is left (01: 28 B H T S bytes).
// Share of torch's attention in fp32, forward, length 4096 on an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator
// Source of the idea: Milakov & Gimelshein 2018, arXiv:1805.02867, alg. 3; backward: Dao et al.
//   2022, arXiv:2205.14135, appendix B.2
//
// Shapes, heads, diagonal and mask as in 01_naive.cu; log_sum and delta are (B, H, T). D and V are
// known at compile time; up to 256 channels stay in registers.

#ifndef REAL
#define REAL float // double for the gradient checker
#endif
#ifndef HEAD
#define HEAD 64 // D
#endif
#ifndef VALUES
#define VALUES HEAD // V
#endif
#ifndef MASK
#define MASK 0 // 1: the kernels look into a mask
#endif
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000) // NVRTC has no math.h
#endif

constexpr int D = HEAD, V = VALUES; // channels of a key and of a value
constexpr int LANES = 32;
constexpr unsigned ALL = 0xffffffff;
constexpr int D_LANE = (D + LANES - 1) / LANES, V_LANE = (V + LANES - 1) / LANES; // a lane's share

// A row's channels over the lanes of a warp: lane i gets the channels i, i + 32, ...
template <int CHANNELS, int SHARE>
__device__ void read_row(REAL (&mine)[SHARE], const REAL *row)
{
    for (int i = 0; i < SHARE; ++i) {
        const int c = threadIdx.x + i * LANES;
        mine[i] = c < CHANNELS ? row[c] : REAL(0);
    }
}

template <int CHANNELS, int SHARE>
__device__ void write_row(REAL *row, const REAL (&mine)[SHARE], REAL factor)
{
    for (int i = 0; i < SHARE; ++i) {
        const int c = threadIdx.x + i * LANES;
        if (c < CHANNELS) row[c] = mine[i] * factor;
    }
}

// A dot product whose terms lie all over the warp; every lane gets the whole sum.
template <int SHARE>
__device__ REAL dot(const REAL (&a)[SHARE], const REAL (&b)[SHARE])
{
    REAL sum = 0;
    for (int i = 0; i < SHARE; ++i) sum += a[i] * b[i];
    for (int offset = LANES / 2; offset > 0; offset /= 2)
        sum += __shfl_xor_sync(ALL, sum, offset);
    return sum;
}

template <int SHARE>
__device__ void add(REAL (&total)[SHARE], REAL weight, const REAL (&row)[SHARE])
{
    for (int i = 0; i < SHARE; ++i) total[i] += weight * row[i];
}

// A block is some warps, threadIdx.y; each takes one row of all B * H * T (or B * G * S) rows.
__device__ long long warp_number() { return (long long)blockIdx.x * blockDim.y + threadIdx.y; }

extern "C" __global__ void online_forward(
    long long rows, const REAL *q, const REAL *k, const REAL *v, const bool *mask, long long mask_b,
    long long mask_h, long long mask_t, long long mask_s, REAL *out, REAL *log_sum, int H, int G,
    int T, int S, int diagonal, REAL scale)
{
    const long long n = warp_number(); // (b * H + h) * T + t
    if (n >= rows) return;
    const int t = n % T, h = n / T % H, b = n / T / H;
    const long long first_key = ((long long)b * G + h / (H / G)) * S;
    const int end = min(S, t + diagonal + 1); // the last key that this query sees, plus 1

    REAL query[D_LANE], mixed[V_LANE] = {};
    REAL peak = -REAL(INFINITY), total = 0;
    read_row<D>(query, q + n * D);
    for (int s = 0; s < end; ++s) {
        if (MASK && !mask[b * mask_b + h * mask_h + t * mask_t + s * mask_s]) continue;
        REAL key[D_LANE], value[V_LANE];
        read_row<D>(key, k + (first_key + s) * D);
        read_row<V>(value, v + (first_key + s) * V);
        const REAL logit = scale * dot(query, key);
        const REAL higher = logit > peak ? logit : peak;
        const REAL finite = higher == -REAL(INFINITY) ? REAL(0) : higher; // no -inf - -inf
        const REAL fade = exp(peak - finite); // 0 at the first key: exp(-inf)
        const REAL weight = exp(logit - finite);
        total = fade * total + weight;
        for (int i = 0; i < V_LANE; ++i) mixed[i] *= fade;
        add(mixed, weight, value);
        peak = higher;
    }
    write_row<V>(out + n * V, mixed, total == 0 ? REAL(0) : 1 / total);
    if (threadIdx.x == 0) log_sum[n] = total == 0 ? REAL(0) : peak + log(total);
}

// delta = sum(dout * out), which is sum(weights * dweights) over all keys: what softmax's backward
// takes from each dweight.
extern "C" __global__ void online_delta(
    long long rows, const REAL *dout, const REAL *out, REAL *delta)
{
    const long long n = warp_number();
    if (n >= rows) return;
    REAL a[V_LANE], b[V_LANE];
    read_row<V>(a, dout + n * V);
    read_row<V>(b, out + n * V);
    const REAL sum = dot(a, b);
    if (threadIdx.x == 0) delta[n] = sum;
}

extern "C" __global__ void online_dq(
    long long rows, const REAL *q, const REAL *k, const REAL *v, const bool *mask, long long mask_b,
    long long mask_h, long long mask_t, long long mask_s, const REAL *dout, const REAL *log_sum,
    const REAL *delta, REAL *dq, int H, int G, int T, int S, int diagonal, REAL scale)
{
    const long long n = warp_number();
    if (n >= rows) return;
    const int t = n % T, h = n / T % H, b = n / T / H;
    const long long first_key = ((long long)b * G + h / (H / G)) * S;
    const int end = min(S, t + diagonal + 1);

    REAL query[D_LANE], dmixed[V_LANE], dquery[D_LANE] = {};
    read_row<D>(query, q + n * D);
    read_row<V>(dmixed, dout + n * V);
    for (int s = 0; s < end; ++s) {
        if (MASK && !mask[b * mask_b + h * mask_h + t * mask_t + s * mask_s]) continue;
        REAL key[D_LANE], value[V_LANE];
        read_row<D>(key, k + (first_key + s) * D);
        read_row<V>(value, v + (first_key + s) * V);
        const REAL weight = exp(scale * dot(query, key) - log_sum[n]);
        const REAL dlogit = weight * (dot(dmixed, value) - delta[n]);
        add(dquery, dlogit, key);
    }
    write_row<D>(dq + n * D, dquery, scale);
}

// A warp keeps one key and its value, and walks along the queries of every head that reads them.
extern "C" __global__ void online_dkv(
    long long rows, const REAL *q, const REAL *k, const REAL *v, const bool *mask, long long mask_b,
    long long mask_h, long long mask_t, long long mask_s, const REAL *dout, const REAL *log_sum,
    const REAL *delta, REAL *dk, REAL *dv, int H, int G, int T, int S, int diagonal, REAL scale)
{
    const long long n = warp_number(); // (b * G + g) * S + s
    if (n >= rows) return;
    const int s = n % S, g = n / S % G, b = n / S / G, group = H / G;

    REAL key[D_LANE], value[V_LANE], dkey[D_LANE] = {}, dvalue[V_LANE] = {};
    read_row<D>(key, k + n * D);
    read_row<V>(value, v + n * V);
    for (int h = g * group; h < (g + 1) * group; ++h) {
        const long long first_query = ((long long)b * H + h) * T;
        for (int t = max(0, s - diagonal); t < T; ++t) { // the queries that see this key
            if (MASK && !mask[b * mask_b + h * mask_h + t * mask_t + s * mask_s]) continue;
            REAL query[D_LANE], dmixed[V_LANE];
            read_row<D>(query, q + (first_query + t) * D);
            read_row<V>(dmixed, dout + (first_query + t) * V);
            const REAL weight = exp(scale * dot(query, key) - log_sum[first_query + t]);
            const REAL dlogit = weight * (dot(dmixed, value) - delta[first_query + t]);
            add(dvalue, weight, dmixed);
            add(dkey, dlogit, query);
        }
    }
    write_row<D>(dk + n * D, dkey, scale);
    write_row<V>(dv + n * V, dvalue, 1);
}
