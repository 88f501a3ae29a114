// What all kernels share: the number type, activations, and sums over a block in a fixed order.
//
// `module.py` puts all sources behind one another, this one first, and defines REAL as float or double.
// No kernel adds floats atomically: every sum has one order, so the same input gives the same bits.

typedef REAL real;

// 1. Activations: the names are in kernels/cuda/module.py ---------------------------------------------------

enum Activation { IDENTITY, RELU, SIGMOID, TANH };

__device__ real activate(int activation, real v)
{
    if (activation == RELU) return v < 0 ? real(0) : v;  // NaN stays NaN
    if (activation == SIGMOID) return real(1) / (real(1) + exp(-v));
    if (activation == TANH) return tanh(v);
    return v;
}

// The derivative where the result is y; all four can be had from it.
__device__ real derivative(int activation, real y)
{
    if (activation == RELU) return y > 0 ? real(1) : real(0);
    if (activation == SIGMOID) return y * (real(1) - y);
    if (activation == TANH) return real(1) - y * y;
    return real(1);
}

// 2. Things that can be added up ---------------------------------------------------------------------------

struct Pair {
    real first, second;
};

__device__ Pair operator+(Pair a, Pair b)
{
    Pair sum = {a.first + b.first, a.second + b.second};
    return sum;
}

// Count, mean and sum of squared distances from it, of some values. Two sets of values together have
//
//   n = n1 + n2,   d = mean2 - mean1,   mean = mean1 + d n2/n,   S = S1 + S2 + d^2 n1 n2/n
//
// (Chan, Golub and LeVeque 1979). There is no difference of large numbers in it, as in sum x^2 - n mean^2.
struct Moments {
    double count, mean, squares;
};

__device__ Moments operator+(Moments a, Moments b)
{
    if (a.count == 0) return b;
    double count = a.count + b.count, d = b.mean - a.mean, share = b.count / count;
    Moments all = {count, a.mean + d * share, a.squares + b.squares + d * d * a.count * share};
    return all;
}

// The larger value; of equals the one with the smaller index.
struct Best {
    real value;
    int index;
};

__device__ Best operator+(Best a, Best b)
{
    if (b.value > a.value) return b;
    if (b.value == a.value && b.index < a.index) return b;
    return a;
}

// 3. Sums over a block -------------------------------------------------------------------------------------

#define BLOCK 256  // threads in most blocks, and the largest block that may call block_sum

// The sum of all threads' values, in every thread. The block has 2^m threads; `scratch` one place for each, and
// it is not free for a second sum, because some thread may still be reading the first. In each round the upper
// half is added to the lower half.
template <class T> __device__ T block_sum(T value, T* scratch)
{
    int t = threadIdx.x;
    scratch[t] = value;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (t < half) scratch[t] = scratch[t] + scratch[t + half];
        __syncthreads();
    }
    return scratch[0];
}
