# %% solution="tiled_traffic"
def tiled_traffic(M, N, K, rows, columns):
    tiles_down, tiles_across = -(-M // rows), -(-N // columns)
    return 4 * (M * K * tiles_across + K * N * tiles_down + M * N)


# %% wrong="tiled_traffic"
def tiled_traffic(M, N, K, rows, columns):  # as if every tile were full
    return 4 * M * N * K * (rows + columns) // (rows * columns) + 4 * M * N


# %% wrong="tiled_traffic"
def tiled_traffic(M, N, K, rows, columns):  # rows and columns exchanged in the edge's favour
    return 4 * (M * K * -(-M // rows) + K * N * -(-N // columns) + M * N)


# %% wrong="tiled_traffic"
def tiled_traffic(M, N, K, rows, columns):  # nothing is written
    return 4 * (M * K * -(-N // columns) + K * N * -(-M // rows))


# %% solution="mended"
def mended(source):
    return source.replace(
        "        if (t >= s) sums[t] += sums[t - s];\n",
        "        __syncthreads();\n"
        "        float before = t >= s ? sums[t - s] : 0;\n"
        "        __syncthreads();\n"
        "        sums[t] += before;\n",
    )


# %% wrong="mended"
def mended(source):  # one barrier a step: reads and writes of the same step still meet
    return source.replace("        if (t >= s)", "        __syncthreads();\n        if (t >= s)")


# %% wrong="mended"
def mended(source):  # a barrier that only some threads reach
    return source.replace(
        "if (t >= s) sums[t] += sums[t - s];",
        "if (t >= s) { float b = sums[t - s]; __syncthreads(); sums[t] += b; }",
    )


# %% wrong="mended"
def mended(source):  # one thread does it all
    return r"""
extern "C" __global__ void running_sums(float *x) {
    if (threadIdx.x == 0) for (int i = 1; i < 64; ++i) x[i] += x[i - 1];
}
"""


# %% solution="half_traffic"
def half_traffic():
    return {"BM": 128, "BN": 128, "BK": 8, "TM": 16}


# %% wrong="half_traffic"
def half_traffic():  # a longer step brings the same numbers in fewer goes
    return {"BM": 64, "BN": 64, "BK": 16, "TM": 4}


# %% wrong="half_traffic"
def half_traffic():  # the static_assert refuses it
    return {"BM": 128, "BN": 64, "BK": 8, "TM": 8}


# %% wrong="half_traffic"
def half_traffic():  # large enough, but half of each sector of A is left
    return {"BM": 128, "BN": 128, "BK": 4, "TM": 32}


# %% solution="tiled"
def tiled():
    return r"""
extern "C" __global__ void tiled(const float *A, const float *B, float *C, int M, int N, int K) {
    __shared__ float a[16][16], b[16][16];
    int x = threadIdx.x, y = threadIdx.y;
    int row = blockIdx.y * 16 + y, col = blockIdx.x * 16 + x;
    float sum = 0;
    for (int k = 0; k < K; k += 16) {
        a[y][x] = row < M && k + x < K ? A[row * K + k + x] : 0.0f;
        b[y][x] = k + y < K && col < N ? B[(k + y) * N + col] : 0.0f;
        __syncthreads();
        for (int i = 0; i < 16; ++i) sum += a[y][i] * b[i][x];
        __syncthreads();
    }
    if (row < M && col < N) C[row * N + col] = sum;
}
"""


# %% wrong="tiled"
def tiled():  # right, but a number of A and of B from global memory for every product
    return r"""
extern "C" __global__ void tiled(const float *A, const float *B, float *C, int M, int N, int K) {
    int row = blockIdx.y * 16 + threadIdx.y, col = blockIdx.x * 16 + threadIdx.x;
    if (row >= M || col >= N) return;
    float sum = 0;
    for (int k = 0; k < K; ++k) sum += A[row * K + k] * B[k * N + col];
    C[row * N + col] = sum;
}
"""


# %% wrong="tiled"
def tiled():  # threads outside C leave before the barriers
    return r"""
extern "C" __global__ void tiled(const float *A, const float *B, float *C, int M, int N, int K) {
    __shared__ float a[16][16], b[16][16];
    int x = threadIdx.x, y = threadIdx.y;
    int row = blockIdx.y * 16 + y, col = blockIdx.x * 16 + x;
    if (row >= M || col >= N) return;
    float sum = 0;
    for (int k = 0; k < K; k += 16) {
        a[y][x] = k + x < K ? A[row * K + k + x] : 0.0f;
        b[y][x] = k + y < K ? B[(k + y) * N + col] : 0.0f;
        __syncthreads();
        for (int i = 0; i < 16; ++i) sum += a[y][i] * b[i][x];
        __syncthreads();
    }
    C[row * N + col] = sum;
}
"""
