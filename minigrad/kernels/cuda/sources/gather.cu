// The next batch of a data set that lies on the device as bytes.
//
// Row n of the batch is example order[position * batch + n], where `position` (1,), in device memory, counts
// the batches of the epoch. `table` (C, 256) holds the value of each byte in each channel, so any transform of
// single pixels is applied exactly. images (.., C, S) -> x (N, C, S); labels -> y (N,). Grid: (N, blocks).
extern "C" __global__ void __launch_bounds__(BLOCK)
gather_batch(const unsigned char* images, const long long* labels, const real* table, const long long* order,
             const long long* position, real* x, long long* y, int batch, int C, int S)
{
    int n = blockIdx.x;
    long long example = order[position[0] * batch + n];
    const unsigned char* from = images + (size_t)example * C * S;
    for (int i = blockIdx.y * BLOCK + threadIdx.x; i < C * S; i += gridDim.y * BLOCK)
        x[(size_t)n * C * S + i] = table[i / S * 256 + from[i]];
    if (blockIdx.y == 0 && threadIdx.x == 0) y[n] = labels[example];
}
