// Convolutions and linear layers: six matrix products (see product.cuh).
//
//   conv forward         z[n,o,p,q]   = sum over c,u,v of weight[o,c,u,v] x[n, c, p si + u - pi, q sj + v - pj]
//   gradient of weight   gw[o,c,u,v]  = sum over n,p,q of gz[n,o,p,q]     x[n, c, p si + u - pi, q sj + v - pj]
//   gradient of x        gx[n,c,h,w]  = sum over o,u,v of weight[o,c,u,v] gz[n, o, (h+pi-u)/si, (w+pj-v)/sj]
//   linear               z[n,o] = sum over i of w[o,i] x[n,i]     gw[o,i] = sum over n of gz[n,o] x[n,i]
//                        gx[n,i] = sum over o of gz[n,o] w[o,i]
//
// `module.py` takes this file in once for each size of tile: TILE is its Product, and TILED(name) the name of
// a kernel with the size behind it, such as conv_forward_16x64. Grid: (tiles across, tiles down, pieces of k).

// Stores a result (N, O, S): bias and activation, or, with `partial`, the moments of each channel beside it.
// The rows of the product are the channels o, its columns (n, s).
__device__ void TILED(store_result)(TILE& product, TILE::Memory& memory, Moments* scratch, const real* bias, real* z,
                                    real* partial, int activation, int N, int O, int S)
{
#pragma unroll
    for (int c = 0; c < TILE::C; c++) {
        int column = product.column(c);
        if (column >= N * S) continue;
        real* to = z + (size_t)(column / S) * O * S + column % S;
#pragma unroll
        for (int r = 0; r < TILE::R; r++) {
            int o = product.row(r);
            if (o < O) to[(size_t)o * S] = activate(activation, product.sum[r][c] + (bias ? bias[o] : real(0)));
        }
    }
    if (partial) product.row_moments(O, N * S, memory, scratch, partial);
}

// partial (tiles across, O, 3) or NULL: count, mean and squared distances of the values without bias
extern "C" __global__ void __launch_bounds__(TILE::THREADS)
TILED(conv_forward)(const real* x, const real* weight, const real* bias, real* z, real* partial, int activation,
                    int N, int C, int H, int W, int O, int K, int L, int P, int Q, int si, int sj, int pi, int pj)
{
    __shared__ TILE::Memory memory;
    __shared__ Moments scratch[TILE::THREADS];
    Conv s = {N, C, H, W, O, K, L, P, Q, si, sj, pi, pj};
    ByRow left = {weight, C * K * L};
    Windows right = {x, s};
    TILE product;
    product.run(left, right, O, N * P * Q, 0, C * K * L, memory);
    TILED(store_result)(product, memory, scratch, bias, z, partial, activation, N, O, P * Q);
}

// gw (pieces, O, C*K*L): the sum over k = (n, p, q) in pieces, which sum_pieces adds up in their order
extern "C" __global__ void __launch_bounds__(TILE::THREADS)
TILED(conv_grad_weight)(const real* x, const real* gz, real* gw, int piece,
                        int N, int C, int H, int W, int O, int K, int L, int P, int Q, int si, int sj, int pi, int pj)
{
    __shared__ TILE::Memory memory;
    Conv s = {N, C, H, W, O, K, L, P, Q, si, sj, pi, pj};
    Channels left = {gz, O, P * Q};
    Windows windows = {x, s};
    WindowsAcross right = {windows};
    int columns = C * K * L, k = blockIdx.z * piece, k_end = min(k + piece, N * P * Q);
    TILE product;
    product.run(left, right, O, columns, k, k_end, memory);
#pragma unroll
    for (int r = 0; r < TILE::R; r++)
#pragma unroll
        for (int c = 0; c < TILE::C; c++) {
            int o = product.row(r), j = product.column(c);
            if (o < O && j < columns) gw[((size_t)blockIdx.z * O + o) * columns + j] = product.sum[r][c];
        }
}

extern "C" __global__ void __launch_bounds__(TILE::THREADS)
TILED(conv_grad_input)(const real* gz, const real* weight, real* gx,
                       int N, int C, int H, int W, int O, int K, int L, int P, int Q, int si, int sj, int pi, int pj)
{
    __shared__ TILE::Memory memory;
    Conv s = {N, C, H, W, O, K, L, P, Q, si, sj, pi, pj};
    FiltersAcross left = {weight, s};
    WindowsOver right = {gz, s};
    TILE product;
    product.run(left, right, C, N * H * W, 0, O * K * L, memory);
    TILED(store_result)(product, memory, nullptr, nullptr, gx, nullptr, IDENTITY, N, C, H * W);
}

extern "C" __global__ void __launch_bounds__(TILE::THREADS)
TILED(linear_forward)(const real* x, const real* weight, const real* bias, real* z, real* partial, int activation,
                      int N, int I, int O)
{
    __shared__ TILE::Memory memory;
    __shared__ Moments scratch[TILE::THREADS];
    ByRow left = {weight, I}, right = {x, I};
    TILE product;
    product.run(left, right, O, N, 0, I, memory);
    TILED(store_result)(product, memory, scratch, bias, z, partial, activation, N, O, 1);
}

// gbias (O,) or NULL: the sum of gz over the batch, as one more column of the product, with 1 in place of x
extern "C" __global__ void __launch_bounds__(TILE::THREADS)
TILED(linear_grad_weight)(const real* x, const real* gz, real* gw, real* gbias, int N, int I, int O)
{
    __shared__ TILE::Memory memory;
    ByColumn left = {gz, O, false}, right = {x, I, gbias != nullptr};
    int columns = gbias ? I + 1 : I;
    TILE product;
    product.run(left, right, O, columns, 0, N, memory);
#pragma unroll
    for (int r = 0; r < TILE::R; r++)
#pragma unroll
        for (int c = 0; c < TILE::C; c++) {
            int o = product.row(r), i = product.column(c);
            if (o >= O || i >= columns) continue;
            if (i < I) gw[(size_t)o * I + i] = product.sum[r][c];
            else gbias[o] = product.sum[r][c];
        }
}

extern "C" __global__ void __launch_bounds__(TILE::THREADS)
TILED(linear_grad_input)(const real* gz, const real* weight, real* gx, int N, int I, int O)
{
    __shared__ TILE::Memory memory;
    ByRow left = {gz, O};
    ByColumn right = {weight, I, false};
    TILE product;
    product.run(left, right, N, I, 0, O, memory);
#pragma unroll
    for (int r = 0; r < TILE::R; r++)
#pragma unroll
        for (int c = 0; c < TILE::C; c++) {
            int n = product.row(r), i = product.column(c);
            if (n < N && i < I) gx[(size_t)n * I + i] = product.sum[r][c];
        }
}
