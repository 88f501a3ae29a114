// One matrix product for everything: C(i, j) = sum over k of A(i, k) B(k, j).
//
// Convolution, its two gradients, and the three products of a linear layer differ only in where A and B are
// read from (`operands.cuh`) and what is done with C (`products.cu`). A block of threads computes one tile of
// C. It goes along k in slices of DEPTH: the threads bring the slices of A and B into shared memory together,
// then each multiplies what it needs for its own R x C values, which stay in registers. While they multiply,
// the next slices are already on their way from global memory.

#define DEPTH 16

// Brings slices of one operand into shared memory. SIZE: rows of the tile for A, columns for B.
template <int SIZE, int THREADS, class Operand> struct Feed {
    static const int COUNT = SIZE * DEPTH / THREADS;  // values that each thread brings

    const Operand& operand;
    typename Operand::Place place[COUNT];
    real next[COUNT];

    // Neighbouring threads read what lies side by side in memory: along k, or along the other index.
    __device__ static int index(int r)
    {
        int e = threadIdx.x + r * THREADS;
        return Operand::along_k ? e / DEPTH : e % SIZE;
    }
    __device__ static int depth(int r)
    {
        int e = threadIdx.x + r * THREADS;
        return Operand::along_k ? e % DEPTH : e / SIZE;
    }

    // Beyond the edge the last row or column is read again; what comes of it is not stored.
    __device__ Feed(const Operand& operand, int first, int size) : operand(operand)
    {
        for (int r = 0; r < COUNT; r++) {
            int i = first + index(r);
            place[r] = operand.place(i < size ? i : size - 1);
        }
    }
    __device__ void fetch(int k, int k_end)
    {
#pragma unroll
        for (int r = 0; r < COUNT; r++) {
            int at = k + depth(r);
            next[r] = at < k_end ? operand.at(place[r], operand.step(at)) : real(0);
        }
    }
    __device__ void store(real (*slice)[SIZE + 1])  // one more than SIZE: no two threads at one memory bank
    {
#pragma unroll
        for (int r = 0; r < COUNT; r++) slice[depth(r)][index(r)] = next[r];
    }
};

template <int ROWS_, int COLUMNS_, int R_, int C_> struct Product {
    static const int ROWS = ROWS_, COLUMNS = COLUMNS_, R = R_, C = C_;
    static const int ACROSS = COLUMNS / C, DOWN = ROWS / R, THREADS = ACROSS * DOWN;

    struct Slices {
        real left[DEPTH][ROWS + 1];
        real right[DEPTH][COLUMNS + 1];
    };
    union Memory {  // shared by the block
        Slices slices;
        real tile[ROWS][COLUMNS + 1];
    };

    int first_row, first_column;
    real sum[R][C];

    // Row and column of sum[r][c]
    __device__ int row(int r) const { return first_row + threadIdx.x / ACROSS + r * DOWN; }
    __device__ int column(int c) const { return first_column + threadIdx.x % ACROSS + c * ACROSS; }

    template <class Left, class Right>
    __device__ void run(const Left& left, const Right& right, int rows, int columns, int k, int k_end, Memory& memory)
    {
        first_row = blockIdx.y * ROWS;
        first_column = blockIdx.x * COLUMNS;
#pragma unroll
        for (int r = 0; r < R; r++)
#pragma unroll
            for (int c = 0; c < C; c++) sum[r][c] = 0;
        Feed<ROWS, THREADS, Left> a(left, first_row, rows);
        Feed<COLUMNS, THREADS, Right> b(right, first_column, columns);
        a.fetch(k, k_end);
        b.fetch(k, k_end);
        for (; k < k_end; k += DEPTH) {
            a.store(memory.slices.left);
            b.store(memory.slices.right);
            __syncthreads();  // both slices are complete
            a.fetch(k + DEPTH, k_end);
            b.fetch(k + DEPTH, k_end);
            multiply(memory.slices);
            __syncthreads();  // nobody needs them any more
        }
    }

    __device__ void multiply(const Slices& slices)
    {
        int i = threadIdx.x / ACROSS, j = threadIdx.x % ACROSS;
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
            real u[R], v[C];
#pragma unroll
            for (int r = 0; r < R; r++) u[r] = slices.left[d][i + r * DOWN];
#pragma unroll
            for (int c = 0; c < C; c++) v[c] = slices.right[d][j + c * ACROSS];
#pragma unroll
            for (int r = 0; r < R; r++)
#pragma unroll
                for (int c = 0; c < C; c++) sum[r][c] += u[r] * v[c];
        }
    }

    // Count, mean and squared distances of each row of this tile -> partial[blockIdx.x][row][3].
    // THREADS / ROWS threads share a row: two passes over their values each, then they are merged in order.
    __device__ void row_moments(int rows, int columns, Memory& memory, Moments* scratch, real* partial)
    {
        const int SHARE = THREADS / ROWS;
        int i = threadIdx.x / SHARE, lane = threadIdx.x % SHARE;
        int here = columns - first_column < COLUMNS ? columns - first_column : COLUMNS;
#pragma unroll
        for (int r = 0; r < R; r++)
#pragma unroll
            for (int c = 0; c < C; c++)
                memory.tile[threadIdx.x / ACROSS + r * DOWN][threadIdx.x % ACROSS + c * ACROSS] = sum[r][c];
        __syncthreads();  // the tile is complete
        real total = 0, squares = 0;
        int count = 0;
        for (int j = lane; j < here; j += SHARE, count++) total += memory.tile[i][j];
        real mean = count > 0 ? total / count : real(0);
        for (int j = lane; j < here; j += SHARE) {
            real d = memory.tile[i][j] - mean;
            squares += d * d;
        }
        Moments own = {double(count), double(mean), double(squares)};
        scratch[threadIdx.x] = own;
        __syncthreads();  // every share is there
        if (lane == 0 && first_row + i < rows) {
            for (int s = 1; s < SHARE; s++) own = own + scratch[threadIdx.x + s];
            real* to = partial + ((size_t)blockIdx.x * rows + first_row + i) * 3;
            to[0] = own.count;
            to[1] = own.mean;
            to[2] = own.squares;
        }
    }
};
