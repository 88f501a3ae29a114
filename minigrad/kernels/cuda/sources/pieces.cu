// Adding up what several blocks have computed of one sum, always in the same order.

#define SUMS 8    // in a block
#define LANES 32  // threads that share one sum

// whole[i] = sum over p of parts[p, i], parts (pieces, size)
extern "C" __global__ void __launch_bounds__(SUMS * LANES)
sum_pieces(const real* parts, real* whole, int pieces, int size)
{
    __shared__ real scratch[LANES][SUMS];
    int x = threadIdx.x % SUMS, lane = threadIdx.x / SUMS, i = blockIdx.x * SUMS + x;
    real sum = 0;
    if (i < size)
        for (int p = lane; p < pieces; p += LANES) sum += parts[(size_t)p * size + i];
    scratch[lane][x] = sum;
    __syncthreads();  // all shares are there
    if (lane == 0 && i < size) {
        for (int other = 1; other < LANES; other++) sum += scratch[other][x];
        whole[i] = sum;
    }
}
