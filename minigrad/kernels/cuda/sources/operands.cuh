// Where the two operands of a product are read from: matrices, and the windows of a convolution.
//
// An operand has two indices: k, over which is summed, and i, the row or column of the result. `place(i)`
// and `step(k)` do what depends on one of them alone, `at(place, step)` gives the value. `along_k` says
// whether memory runs along k. Letters as in docs/notation.md: x (N, C, H, W), weight (O, C, K, L),
// z (N, O, P, Q); strides si, sj and paddings pi, pj along height and width.

struct Conv {
    int N, C, H, W, O, K, L, P, Q, si, sj, pi, pj;
};

// m[i, k] of a matrix (.., length)
struct ByRow {
    static const bool along_k = true;
    typedef const real* Place;
    typedef int Step;
    const real* m;
    int length;
    __device__ Place place(int i) const { return m + (size_t)i * length; }
    __device__ Step step(int k) const { return k; }
    __device__ real at(Place row, Step k) const { return row[k]; }
};

// m[k, i] of a matrix (.., length); with `ones` there is one more column, of ones, which adds up
struct ByColumn {
    static const bool along_k = false;
    typedef int Place;
    typedef const real* Step;
    const real* m;
    int length;
    bool ones;
    __device__ Place place(int i) const { return i; }
    __device__ Step step(int k) const { return m + (size_t)k * length; }
    __device__ real at(Place i, Step row) const { return ones && i == length ? real(1) : row[i]; }
};

// x under the windows: i = (n, p, q) the window, k = (c, u, v) the place in it; 0 in the padding
struct Windows {
    static const bool along_k = false;
    struct Place {
        const real* x;
        int top, left;
    };
    struct Step {
        int c, u, v;
    };
    const real* x;
    Conv s;
    __device__ Place place(int i) const
    {
        int n = i / (s.P * s.Q), pq = i % (s.P * s.Q);
        Place at = {x + (size_t)n * s.C * s.H * s.W, pq / s.Q * s.si - s.pi, pq % s.Q * s.sj - s.pj};
        return at;
    }
    __device__ Step step(int k) const
    {
        int uv = k % (s.K * s.L);
        Step at = {k / (s.K * s.L), uv / s.L, uv % s.L};
        return at;
    }
    __device__ real at(Place place, Step step) const
    {
        int h = place.top + step.u, w = place.left + step.v;
        bool inside = h >= 0 && h < s.H && w >= 0 && w < s.W;
        return inside ? place.x[(step.c * s.H + h) * s.W + w] : real(0);
    }
};

// The same values with the roles exchanged: i = (c, u, v), k = (n, p, q)
struct WindowsAcross {
    static const bool along_k = true;
    typedef Windows::Step Place;
    typedef Windows::Place Step;
    Windows windows;
    __device__ Place place(int i) const { return windows.step(i); }
    __device__ Step step(int k) const { return windows.place(k); }
    __device__ real at(Place place, Step step) const { return windows.at(step, place); }
};

// A result (N, O, S), S = P*Q: i = o, k = (n, s)
struct Channels {
    static const bool along_k = true;
    typedef int Place;
    typedef const real* Step;
    const real* z;
    int O, S;
    __device__ Place place(int i) const { return i; }
    __device__ Step step(int k) const { return z + (size_t)(k / S) * O * S + k % S; }
    __device__ real at(Place o, Step z) const { return z[o * S]; }
};

// weight (O, C, K, L): i = c, k = (o, u, v)
struct FiltersAcross {
    static const bool along_k = true;
    typedef int Place;
    typedef const real* Step;
    const real* weight;
    Conv s;
    __device__ Place place(int i) const { return i * s.K * s.L; }
    __device__ Step step(int k) const
    {
        int KL = s.K * s.L;
        return weight + (size_t)(k / KL) * s.C * KL + k % KL;
    }
    __device__ real at(Place c, Step filter) const { return filter[c]; }
};

// gz at the windows that pixel i = (n, h, w) lies in: k = (o, u, v) its place in the window. The window's
// corner is at (h + pi - u, w + pj - v); there is one only every si rows and sj columns.
struct WindowsOver {
    static const bool along_k = false;
    typedef Windows::Place Place;
    typedef Windows::Step Step;
    const real* gz;
    Conv s;
    __device__ Place place(int i) const
    {
        int n = i / (s.H * s.W), hw = i % (s.H * s.W);
        Place at = {gz + (size_t)n * s.O * s.P * s.Q, hw / s.W + s.pi, hw % s.W + s.pj};
        return at;
    }
    __device__ Step step(int k) const
    {
        int uv = k % (s.K * s.L);
        Step at = {k / (s.K * s.L), uv / s.L, uv % s.L};
        return at;
    }
    __device__ real at(Place place, Step step) const
    {
        int p = place.top - step.u, q = place.left - step.v;
        if (p < 0 || q < 0) return real(0);
        if (s.si > 1 || s.sj > 1) {  // division takes long, and mostly there is none to be done
            if (p % s.si != 0 || q % s.sj != 0) return real(0);
            p /= s.si;
            q /= s.sj;
        }
        return p < s.P && q < s.Q ? place.x[(step.c * s.P + p) * s.Q + q] : real(0);
    }
};
