// 01_turn.cu   (y1, y2) = (x1 cos a - x2 sin a, x2 cos a + x1 sin a) for channels i and i + D/2
//
// Idea: a thread turns one pair of channels, so that x is read and y written once; the reference
//   makes four products and two sums on the way, and each passes through memory.
// Arithmetic: 3 operations a number. Bytes: 8 a number in fp32, and the tables of cos and sin, T D,
//   from the cache: 0.4 operations a byte.
// Share of the copy bandwidth of an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator
// Source of the idea: Su et al. 2021, arXiv:2104.09864, eq. 34
//
// x and y are (rows, 2 half) with T rows a head, cos and sin (T, half), all C-contiguous. sign is
// 1, or -1 for the opposite angle, which is backward.

#ifndef REAL
#define REAL float // double for the gradient checker
#endif

extern "C" __global__ void turn(
    long long pairs, const REAL *x, const REAL *cos, const REAL *sin, REAL *y, long long T,
    long long half, REAL sign)
{
    const long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= pairs) return;
    const long long row = n / half, i = n % half, angle = row % T * half + i;
    const REAL first = x[row * 2 * half + i], second = x[row * 2 * half + half + i];
    y[row * 2 * half + i] = first * cos[angle] - sign * second * sin[angle];
    y[row * 2 * half + half + i] = second * cos[angle] + sign * first * sin[angle];
}
