// Optimizers over one flat array of n parameters, as in minigrad/optim/sgd.py and adam.py.
//
// What may change while a captured graph runs again and again stands in device memory: `hyper`, in float64,
// so that 1 - beta is formed as Python forms it, and `steps`, the number of steps made before this one.

// g = dL/dp + weight_decay p;  v = momentum v + (1 - dampening) g, in the first step v = g;
// d = g + momentum v if nesterov, else v, else (momentum 0) g;  p = p - lr d
// hyper: lr, momentum, dampening, weight_decay, maximize (0 or 1), nesterov (0 or 1). v may be NULL if momentum is 0.
extern "C" __global__ void __launch_bounds__(BLOCK)
sgd(real* p, const real* gradient, real* v, const double* hyper, const long long* steps, int n)
{
    real lr = hyper[0], momentum = hyper[1], part = 1 - hyper[2], decay = hyper[3];
    bool uphill = hyper[4] != 0, nesterov = hyper[5] != 0, first = steps[0] == 0;
    for (int i = blockIdx.x * BLOCK + threadIdx.x; i < n; i += gridDim.x * BLOCK) {
        real g = uphill ? -gradient[i] : gradient[i];
        if (decay != 0) g += decay * p[i];
        if (momentum != 0) {
            v[i] = first ? g : momentum * v[i] + part * g;
            g = nesterov ? g + momentum * v[i] : v[i];
        }
        p[i] -= lr * g;
    }
}

// m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;  in step t = steps + 1
// p = p - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
// Adam: g = dL/dp + weight_decay p. AdamW (decoupled): p = p (1 - lr weight_decay) first.
// amsgrad: `largest`, if not NULL, is the largest v so far and takes its place.
// hyper: lr, beta1, beta2, eps, weight_decay, maximize (0 or 1), decoupled (0 or 1)
extern "C" __global__ void __launch_bounds__(BLOCK)
adam(real* p, const real* gradient, real* m, real* v, real* largest, const double* hyper, const long long* steps, int n)
{
    __shared__ double correction[2];
    if (threadIdx.x == 0) {
        double t = double(steps[0] + 1);
        correction[0] = hyper[0] / (1 - pow(hyper[1], t));
        correction[1] = sqrt(1 - pow(hyper[2], t));
    }
    __syncthreads();  // the powers are there
    real rate = correction[0], scale = correction[1];
    real beta1 = hyper[1], beta2 = hyper[2], rest1 = 1 - hyper[1], rest2 = 1 - hyper[2];
    real eps = hyper[3], decay = hyper[4], keep = 1 - hyper[0] * hyper[4];
    bool uphill = hyper[5] != 0, decoupled = hyper[6] != 0;
    for (int i = blockIdx.x * BLOCK + threadIdx.x; i < n; i += gridDim.x * BLOCK) {
        real g = uphill ? -gradient[i] : gradient[i], value = p[i];
        if (decay != 0 && decoupled) value *= keep;
        else if (decay != 0) g += decay * value;
        m[i] = beta1 * m[i] + rest1 * g;
        v[i] = beta2 * v[i] + rest2 * g * g;
        real square = v[i];
        if (largest) square = largest[i] = max(largest[i], v[i]);
        p[i] = value - rate * m[i] / (sqrt(square) / scale + eps);
    }
}

// Copies many arrays into one flat array: array k, at address from[k], goes to flat[start[k]] .. flat[start[k+1]].
// Grid: (blocks, arrays).
extern "C" __global__ void __launch_bounds__(BLOCK)
pack(const long long* from, const long long* start, real* flat)
{
    const real* source = (const real*)from[blockIdx.y];
    long long first = start[blockIdx.y], size = start[blockIdx.y + 1] - first;
    for (long long i = blockIdx.x * BLOCK + threadIdx.x; i < size; i += gridDim.x * BLOCK) flat[first + i] = source[i];
}
