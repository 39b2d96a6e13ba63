// 01_vectorised.cu   y = x (1 + erf(x / sqrt 2)) / 2, or -DTANH: its approximation by tanh; backward
//
// Idea: one pass, 16 bytes a thread; NumPy's line makes an array for every step on the way. Backward
//   makes the derivative again from x, which is cheaper than to keep it in memory.
// Arithmetic: about 30 operations a number for erf or tanh, 4 operations a byte: the memory's time.
// Bytes: forward 8 a number in fp32, backward 12: each array once, which is the least there is.
// Share of copy bandwidth at 16384 x 3072 on an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator
// Limits: VECTOR divides the arrays' length, and they begin at a multiple of its bytes (else 1).
// Source of the formulas: minillm/ops/gelu.py

#ifndef REAL
#define REAL float
#endif
#ifndef VECTOR
#define VECTOR ((int)(16 / sizeof(REAL)))
#endif

struct alignas(sizeof(REAL) * VECTOR) Pack {
    REAL item[VECTOR];
};

// The weight of x, and the weight's slope.
__device__ void weigh(REAL x, REAL& weight, REAL& slope)
{
#ifdef TANH
    const REAL scale = 0.79788456080286535588, cubic = 0.044715;  // sqrt(2 / pi)
    weight = (REAL)0.5 * (1 + tanh(scale * (x + cubic * (x * x * x))));
    slope = 2 * weight * (1 - weight) * (scale * (1 + 3 * cubic * (x * x)));
#else
    const REAL root_half = 0.70710678118654752440, density = 0.39894228040143267794;
    weight = (REAL)0.5 * (1 + erf(x * root_half));
    slope = exp((REAL)-0.5 * (x * x)) * density;  // of the standard normal distribution
#endif
}

// Grid: packs / threads, rounded up.
extern "C" __global__ void gelu_forward(const Pack* x, Pack* y, long long packs)
{
    const long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= packs) return;
    Pack values = x[n];
#pragma unroll
    for (int v = 0; v < VECTOR; ++v) {
        REAL weight, slope;
        weigh(values.item[v], weight, slope);
        values.item[v] *= weight;
    }
    y[n] = values;
}

extern "C" __global__ void gelu_backward(const Pack* x, const Pack* dy, Pack* dx, long long packs)
{
    const long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= packs) return;
    const Pack values = x[n];
    Pack grads = dy[n];
#pragma unroll
    for (int v = 0; v < VECTOR; ++v) {
        REAL weight, slope;
        weigh(values.item[v], weight, slope);
        grads.item[v] *= weight + values.item[v] * slope;
    }
    dx[n] = grads;
}
