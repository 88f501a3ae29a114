// Adding up what several blocks have computed of one sum, always in the same order.

#define LANES 8  // threads that share one sum

// whole[i] = sum over p of parts[p, i], parts (pieces, size). Block: 32 sums of 8 threads each.
extern "C" __global__ void __launch_bounds__(32 * LANES)
sum_pieces(const real* parts, real* whole, int pieces, int size)
{
    __shared__ real scratch[LANES][32];
    int x = threadIdx.x % 32, lane = threadIdx.x / 32, i = blockIdx.x * 32 + x;
    real sum = 0;
    if (i < size)
        for (int p = lane; p < pieces; p += LANES) sum += parts[(size_t)p * size + i];
    scratch[lane][x] = sum;
    __syncthreads();  // all eight shares are there
    if (lane == 0 && i < size) {
        for (int other = 1; other < LANES; other++) sum += scratch[other][x];
        whole[i] = sum;
    }
}
