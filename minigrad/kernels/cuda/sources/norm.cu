// Batch norm, activation and 2x2 max pooling, forward and backward, on arrays (N, C, S); S = P*Q, or 1.
//
//   xhat = (z - mean) inv_std      inv_std = 1 / sqrt(var + eps)      y = pool(act(gamma xhat + beta))
//
// and backward, with t = gy act'(y) at the winner of each window and 0 elsewhere, M = N*S:
//
//   gbeta = sum t      ggamma = sum t xhat      gz = gamma inv_std (t - gbeta / M - xhat ggamma / M)
//
// Without batch norm mean and inv_std are NULL, xhat = z, and gz = t. gamma and beta may be NULL: 1 and 0.
// All grids are (C, blocks): a block works on one channel.

struct Channel {  // what a thread has to know of its channel
    real mean, inv_std, gamma, beta;
    __device__ Channel(const real* mean_, const real* inv_std_, const real* gamma_, const real* beta_, int c)
    {
        mean = mean_ ? mean_[c] : real(0);
        inv_std = inv_std_ ? inv_std_[c] : real(1);
        gamma = gamma_ ? gamma_[c] : real(1);
        beta = beta_ ? beta_[c] : real(0);
    }
    __device__ real xhat(real z) const { return (z - mean) * inv_std; }
    __device__ real result(real z) const { return gamma * xhat(z) + beta; }
};

// 1. Forward -----------------------------------------------------------------------------------------------

// The moments (pieces, C, 3) of the pieces of each channel -> those of the batch. Grid: C.
// `bias` was left out of z, because batch norm takes it away again; only the mean that is reported has it.
extern "C" __global__ void __launch_bounds__(BLOCK)
merge_moments(const real* partial, const real* bias, double eps, real* centre, real* inv_std, real* mean, real* var,
              int pieces, int C)
{
    __shared__ Moments scratch[BLOCK];
    int c = blockIdx.x;
    Moments own = {0, 0, 0};
    for (int p = threadIdx.x; p < pieces; p += BLOCK) {
        const real* from = partial + ((size_t)p * C + c) * 3;
        Moments piece = {from[0], from[1], from[2]};
        own = own + piece;
    }
    Moments all = block_sum(own, scratch);
    if (threadIdx.x == 0) {
        double variance = all.squares / all.count;
        centre[c] = all.mean;
        inv_std[c] = 1 / sqrt(variance + eps);
        mean[c] = all.mean + (bias ? double(bias[c]) : 0);
        var[c] = variance;
    }
}

// y = act(gamma xhat + beta)
extern "C" __global__ void __launch_bounds__(BLOCK)
norm_apply(const real* z, const real* mean, const real* inv_std, const real* gamma, const real* beta, real* y,
           int activation, int N, int C, int S)
{
    int c = blockIdx.x;
    Channel channel(mean, inv_std, gamma, beta, c);
    for (int i = blockIdx.y * BLOCK + threadIdx.x; i < N * S; i += gridDim.y * BLOCK) {
        size_t at = ((size_t)(i / S) * C + c) * S + i % S;
        y[at] = activate(activation, channel.result(z[at]));
    }
}

// The same with 2x2 max pooling, stride 2: y and winner (N, C, P/2, Q/2); P and Q are even.
// All activations increase, so the largest result comes from the largest z where gamma > 0, and from the
// smallest where gamma < 0; where gamma = 0 all are equal. Of equals the first wins. NaN wins over numbers.
extern "C" __global__ void __launch_bounds__(BLOCK)
norm_apply_pool(const real* z, const real* mean, const real* inv_std, const real* gamma, const real* beta, real* y,
                unsigned char* winner, int activation, int N, int C, int P, int Q)
{
    int c = blockIdx.x, R = P / 2, S = Q / 2;
    Channel channel(mean, inv_std, gamma, beta, c);
    real sign = channel.gamma < 0 ? real(-1) : channel.gamma == 0 ? real(0) : real(1);
    for (int i = blockIdx.y * BLOCK + threadIdx.x; i < N * R * S; i += gridDim.y * BLOCK) {
        int n = i / (R * S), r = i / S % R, s = i % S;
        const real* window = z + (((size_t)n * C + c) * P + 2 * r) * Q + 2 * s;
        real best = window[0];
        int won = 0;
        for (int k = 1; k < 4; k++) {
            real v = window[k / 2 * Q + k % 2];
            if (sign * v > sign * best || (v != v && best == best)) {
                best = v;
                won = k;
            }
        }
        size_t at = ((size_t)n * C + c) * R * S + r * S + s;
        y[at] = activate(activation, channel.result(best));
        winner[at] = won;
    }
}

// Running statistics: running += weight (new - running), with the variance divided by M - 1. Grid: any.
// `tracked`, the number of batches seen, is counted up by the first thread.
extern "C" __global__ void __launch_bounds__(BLOCK)
track_statistics(const real* mean, const real* var, real* running_mean, real* running_var, long long* tracked,
                 double weight, double M, int C)
{
    int c = blockIdx.x * BLOCK + threadIdx.x;
    if (c == 0) tracked[0] += 1;
    if (c >= C) return;
    running_mean[c] += real(weight) * (mean[c] - running_mean[c]);
    running_var[c] += real(weight) * (var[c] * real(M / (M - 1)) - running_var[c]);
}

// Evaluation: with fixed statistics batch norm is one factor and one summand a channel, and they go into the
// weights (O, size) of the layer before it. Grid: (O, blocks).
//
//   scale = gamma / sqrt(var + eps)      folded = scale weight      shift = scale (bias - mean) + beta
extern "C" __global__ void __launch_bounds__(BLOCK)
fold_norm(const real* weight, const real* bias, const real* mean, const real* var, const real* gamma, const real* beta,
          double eps, real* folded, real* shift, int size)
{
    int o = blockIdx.x;
    real scale = (gamma ? double(gamma[o]) : 1) / sqrt(var[o] + eps);
    for (int i = blockIdx.y * BLOCK + threadIdx.x; i < size; i += gridDim.y * BLOCK)
        folded[(size_t)o * size + i] = scale * weight[(size_t)o * size + i];
    if (blockIdx.y == 0 && threadIdx.x == 0)
        shift[o] = scale * ((bias ? bias[o] : real(0)) - mean[o]) + (beta ? beta[o] : real(0));
}

// 2. Backward ----------------------------------------------------------------------------------------------

// Sums of t and t xhat over a part of each channel -> partial (gridDim.y, C, 2). y, gy (N, C, S); z the same,
// or, with `winner`, (N, C, P, Q) with S = P/2 Q/2.
extern "C" __global__ void __launch_bounds__(BLOCK)
norm_backward_sums(const real* gy, const real* y, const real* z, const unsigned char* winner, const real* mean,
                   const real* inv_std, real* partial, int activation, int N, int C, int S, int P, int Q)
{
    __shared__ Pair scratch[BLOCK];
    int c = blockIdx.x;
    Channel channel(mean, inv_std, nullptr, nullptr, c);
    Pair own = {0, 0};
    for (int i = blockIdx.y * BLOCK + threadIdx.x; i < N * S; i += gridDim.y * BLOCK) {
        int n = i / S, s = i % S;
        size_t at = ((size_t)n * C + c) * S + s, source = at;
        if (winner) {
            int won = winner[at], p = s / (Q / 2) * 2 + won / 2, q = s % (Q / 2) * 2 + won % 2;
            source = (((size_t)n * C + c) * P + p) * Q + q;
        }
        real t = gy[at] * derivative(activation, y[at]);
        Pair term = {t, t * channel.xhat(z[source])};
        own = own + term;
    }
    Pair total = block_sum(own, scratch);
    if (threadIdx.x == 0) {
        partial[((size_t)blockIdx.y * C + c) * 2] = total.first;
        partial[((size_t)blockIdx.y * C + c) * 2 + 1] = total.second;
    }
}

// gz everywhere, from the sums above; every block adds them up for itself, the first one stores ggamma and
// gbeta (each may be NULL). With batch norm the gradient of the bias before it is exactly 0. pieces = 0: no
// sums are needed, which is only so without batch norm.
extern "C" __global__ void __launch_bounds__(BLOCK)
norm_backward_apply(const real* gy, const real* y, const real* z, const unsigned char* winner, const real* mean,
                    const real* inv_std, const real* gamma, const real* partial, real* gz, real* ggamma, real* gbeta,
                    real* gbias, int pieces, int activation, int N, int C, int S, int P, int Q)
{
    __shared__ Pair scratch[BLOCK];
    int c = blockIdx.x;
    Channel channel(mean, inv_std, gamma, nullptr, c);
    Pair total = {0, 0};
    if (pieces > 0) {
        for (int p = threadIdx.x; p < pieces; p += BLOCK) {
            Pair piece = {partial[((size_t)p * C + c) * 2], partial[((size_t)p * C + c) * 2 + 1]};
            total = total + piece;
        }
        total = block_sum(total, scratch);
        if (threadIdx.x == 0 && blockIdx.y == 0) {
            if (ggamma) ggamma[c] = total.second;
            if (gbeta) gbeta[c] = total.first;
            if (gbias) gbias[c] = inv_std ? real(0) : total.first;
        }
    }
    int taps = winner ? 4 : 1;
    real scale = channel.gamma * channel.inv_std, M = real(N) * S * taps;
    real level = inv_std ? total.first / M : real(0), slope = inv_std ? total.second / M : real(0);
    for (int i = blockIdx.y * BLOCK + threadIdx.x; i < N * S; i += gridDim.y * BLOCK) {
        int n = i / S, s = i % S;
        size_t at = ((size_t)n * C + c) * S + s;
        real t = gy[at] * derivative(activation, y[at]);
        for (int k = 0; k < taps; k++) {
            size_t to = at;
            if (winner) {
                int p = s / (Q / 2) * 2 + k / 2, q = s % (Q / 2) * 2 + k % 2;
                to = (((size_t)n * C + c) * P + p) * Q + q;
            }
            real here = !winner || winner[at] == k ? t : real(0);
            gz[to] = inv_std ? scale * (here - level - channel.xhat(z[to]) * slope) : here;
        }
    }
}
