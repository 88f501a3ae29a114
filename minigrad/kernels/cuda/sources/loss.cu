// Softmax cross entropy with its gradient, and the figures of an epoch, all kept on the device.
//
//   p = softmax(x)      loss[n] = -ln p[n, label[n]]      gx[n, j] = scale (p[n, j] - (j == label[n]))
//
// A label outside 0 .. C-1 picks nothing: loss and gradient of its row are 0, and it is counted, so that
// whoever reads the figures can refuse it.

// Grid: N. losses (N,); state (N,): 1 where the largest score is the label's, -1 for a wrong label, else 0.
extern "C" __global__ void __launch_bounds__(BLOCK)
cross_entropy_rows(const real* x, const long long* labels, real* losses, int* state, real* gx, double scale, int C)
{
    __shared__ Best best_scratch[BLOCK];
    __shared__ real scratch[BLOCK];
    const real* row = x + (size_t)blockIdx.x * C;
    real* grow = gx ? gx + (size_t)blockIdx.x * C : nullptr;
    long long label = labels[blockIdx.x];
    bool wrong = label < 0 || label >= C;

    Best best = {row[0], 0};
    for (int j = threadIdx.x; j < C; j += blockDim.x) {
        Best here = {row[j], j};
        best = best + here;
    }
    best = block_sum(best, best_scratch);
    real sum = 0;
    for (int j = threadIdx.x; j < C; j += blockDim.x) sum += exp(row[j] - best.value);
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) {
        losses[blockIdx.x] = wrong ? real(0) : log(sum) - (row[label] - best.value);
        state[blockIdx.x] = wrong ? -1 : best.index == label;
    }
    if (grow)
        for (int j = threadIdx.x; j < C; j += blockDim.x) {
            real g = exp(row[j] - best.value) / sum - (j == label ? real(1) : real(0));
            grow[j] = wrong ? real(0) : real(scale) * g;
        }
}

struct Figures {
    double loss;
    long long correct, wrong;
};

__device__ Figures operator+(Figures a, Figures b)
{
    Figures sum = {a.loss + b.loss, a.correct + b.correct, a.wrong + b.wrong};
    return sum;
}

// One block: the batch's mean loss, and its part of the epoch's figures. Each of the four may be NULL.
//   mean             of the batch; one place for each batch of the epoch if there are counters, else (1,)
//   loss_sum (1,)    += the sum of losses
//   counts (3,)      += examples with the right answer, wrong labels, examples
//   counters (2,)    += 1: batches of this epoch, steps altogether
extern "C" __global__ void __launch_bounds__(BLOCK)
finish_batch(const real* losses, const int* state, real* mean, double* loss_sum, long long* counts,
             long long* counters, double scale, int N)
{
    __shared__ Figures scratch[BLOCK];
    Figures own = {0, 0, 0};
    for (int n = threadIdx.x; n < N; n += BLOCK) {
        Figures one = {double(losses[n]), state[n] == 1, state[n] == -1};
        own = own + one;
    }
    Figures all = block_sum(own, scratch);
    if (threadIdx.x != 0) return;
    if (mean) mean[counters ? counters[0] : 0] = all.loss * scale;
    if (loss_sum) loss_sum[0] += all.loss;
    if (counts) {
        counts[0] += all.correct;
        counts[1] += all.wrong;
        counts[2] += N;
    }
    if (counters) {
        counters[0] += 1;
        counters[1] += 1;
    }
}
