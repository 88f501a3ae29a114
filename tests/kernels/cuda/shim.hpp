// Runs CUDA C on the CPU: what the kernels use of CUDA, for a C++ compiler.
//
// A thread of a block is a coroutine with a stack of its own. It runs until it comes to a barrier; when all
// have got there, they go on. The order in which they run is chosen from outside, since on a GPU there is none:
// forwards, backwards, or in a new random order after each barrier. Blocks run one after another in the same
// kind of order. Before each block all shared memory is filled with 0xff bytes, which are NaN in a float.
//
// Each barrier in the sources has a number (emulator.py writes it in). `skip` leaves one of them out, to see
// whether the tests would notice; `visited` says which ones a kernel came through.

#include <csetjmp>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>
#include <ucontext.h>

#define __global__
#define __device__
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("cuda_shared")))


struct Index {
    unsigned x, y, z;
};
static Index threadIdx, blockIdx, blockDim, gridDim;

using std::exp;
using std::log;
using std::max;
using std::min;
using std::pow;
using std::sqrt;
using std::tanh;

extern "C" char __start_cuda_shared[] __attribute__((weak));  // the linker sets these two
extern "C" char __stop_cuda_shared[] __attribute__((weak));

namespace emulator {

enum Order { FORWARD, REVERSE, RANDOM };
enum Outcome { FINE, DIVERGED };
const int FINISHED = -1, SITES = 256;
const size_t STACK = 64 * 1024;

static std::vector<char*> stacks;
static std::vector<jmp_buf> places(1024);  // where each thread waits
static std::vector<int> at;                // the barrier that each waits at, or FINISHED
static jmp_buf scheduler;
static unsigned current;
static int skip;
static int visited[SITES];
static void (*body)(void**);
static void** arguments;

static void barrier(int site)
{
    visited[site]++;
    if (site == skip) return;
    at[current] = site;
    if (_setjmp(places[current]) == 0) _longjmp(scheduler, 1);
}

static void thread()  // runs on the thread's own stack, one kernel after another
{
    for (;;) {
        body(arguments);
        at[current] = FINISHED;
        if (_setjmp(places[current]) == 0) _longjmp(scheduler, 1);
    }
}

static void make_threads(unsigned count)
{
    static ucontext_t back, fresh;
    static volatile unsigned made;
    for (made = stacks.size(); made < count; made = made + 1) {
        stacks.push_back((char*)malloc(STACK));
        getcontext(&fresh);
        fresh.uc_stack.ss_sp = stacks.back();
        fresh.uc_stack.ss_size = STACK;
        fresh.uc_link = nullptr;
        makecontext(&fresh, (void (*)())+[] {
            if (_setjmp(places[made]) == 0) setcontext(&back);  // wait to be run
            thread();
        }, 0);
        swapcontext(&back, &fresh);
    }
}

static std::vector<unsigned> in_order(unsigned count, int order, std::mt19937& random)
{
    std::vector<unsigned> list(count);
    for (unsigned i = 0; i < count; i++) list[i] = order == REVERSE ? count - 1 - i : i;
    if (order == RANDOM)
        for (unsigned i = count; i > 1; i--) std::swap(list[i - 1], list[random() % i]);
    return list;
}

static int run(void (*kernel)(void**), void** args, const unsigned* grid, const unsigned* block, int order, int left_out)
{
    std::mt19937 random(7);
    body = kernel, arguments = args, skip = left_out;
    memset(visited, 0, sizeof visited);
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    unsigned threads = block[0] * block[1] * block[2];
    make_threads(threads);
    for (unsigned b : in_order(grid[0] * grid[1] * grid[2], order, random)) {
        blockIdx = {b % grid[0], b / grid[0] % grid[1], b / grid[0] / grid[1]};
        if (__start_cuda_shared) memset(__start_cuda_shared, 0xff, __stop_cuda_shared - __start_cuda_shared);
        at.assign(threads, 0);
        do {
            static std::vector<unsigned> list;
            static volatile unsigned i;
            list = in_order(threads, order, random);
            for (i = 0; i < threads; i = i + 1) {
                current = list[i];
                threadIdx = {current % block[0], current / block[0] % block[1], current / block[0] / block[1]};
                if (_setjmp(scheduler) == 0) _longjmp(places[current], 1);
            }
            for (unsigned t = 1; t < threads; t++)
                if (at[t] != at[0]) {  // not all threads come to the same barrier
                    for (char* stack : stacks) free(stack);
                    stacks.clear();  // they stand in the middle of this kernel: the next one gets new threads
                    return DIVERGED;
                }
        } while (at[0] != FINISHED);
    }
    return FINE;
}

}  // namespace emulator

extern "C" int visits(int site) { return emulator::visited[site]; }
