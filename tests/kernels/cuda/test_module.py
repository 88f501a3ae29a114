"""Sources, signatures, and how kernels are started through CuPy; a stand-in for CuPy keeps what it is given."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from minigrad import backend
from minigrad.errors import DeviceError, DtypeError, ShapeError
from minigrad.kernels.cuda import module

TILED = ["conv_forward", "conv_grad_weight", "conv_grad_input", "linear_forward", "linear_grad_weight"]
TILED += ["linear_grad_input"]


def test_signatures():
    text = """
    // extern "C" __global__ void in_a_comment is not read, it has no parameters
    extern "C" __global__ void plain(const float* x, long long n)
    #define TILED(name) name##_16x16
    extern "C" __global__ void __launch_bounds__(TILE::THREADS)
    TILED(product)(const real* x, unsigned char* winner,
                   const long long* labels, double eps, int n)
    #define TILED(name) name##_2x4
    extern "C" __global__ void __launch_bounds__(32 * 8)
    TILED(product)(real* x)
    """
    assert module.signatures(text) == {
        "plain": ["float*", "long long"],
        "product_16x16": ["real*", "unsigned char*", "long long*", "double", "int"],
        "product_2x4": ["real*"],
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_kernel_of_the_sources_has_a_signature(dtype):
    text = module.source(dtype)
    names = set(module.signatures(text))
    assert {f"{name}_{r}x{c}" for name in TILED for r, c in module.TILES} <= names
    assert len(names) == len(re.findall(r"__global__", text))
    assert f"#define REAL {'float' if dtype == 'float32' else 'double'}\n" in text
    assert "atomic" not in re.sub(r"//.*", "", text)


def test_every_source_file_is_used():
    files = {path.name for path in module.SOURCES.iterdir()}
    assert files == {*module.BEFORE, module.TILED, *module.AFTER}


def test_numbers_that_stand_in_both_languages():
    text = module.source("float32")
    names = re.search(r"enum Activation \{ (.*?) \};", text)[1].lower().split(", ")
    assert names == sorted(module.ACTIVATIONS, key=module.ACTIVATIONS.get)
    assert list(module.ACTIVATIONS.values()) == [0, 1, 2, 3]
    assert f"#define BLOCK {module.BLOCK} " in text
    from minigrad.kernels.cpu.activation import NAMES

    assert set(NAMES) == set(module.ACTIVATIONS)


# CuPy -----------------------------------------------------------------------------------------------------


class FakeCupy:
    """As much of CuPy as the launcher touches; its arrays are NumPy's."""

    __name__ = "cupy"

    def __init__(self):
        self.modules, self.started = [], []

    def RawModule(self, code, options):
        self.modules.append((code, options))

        def get_function(name):
            return lambda grid, block, args, shared_mem: self.started.append(
                (name, grid, block, args, shared_mem)
            )

        return SimpleNamespace(get_function=get_function)

    def empty(self, shape, dtype):
        return np.empty(shape, dtype)


@pytest.fixture
def cupy(monkeypatch):
    fake = FakeCupy()
    monkeypatch.setattr(backend.cuda, "load", lambda: fake)
    before = module.set_launcher(module.CupyLauncher())
    yield fake
    module.set_launcher(before)


def test_the_module_is_compiled_once_for_each_dtype(cupy):
    for dtype in ("float32", "float64", "float32"):
        x = np.zeros(3, dtype)
        module.launch("sgd", (1,), (256,), [x, x, None, np.zeros(6), np.zeros(1, np.int64), 3])
    assert [code for code, _ in cupy.modules] == [module.source("float32"), module.source("float64")]
    assert cupy.modules[0][1] == module.OPTIONS
    assert len(cupy.started) == 3


def test_arguments_have_the_size_that_the_kernel_takes(cupy):
    x, hyper, steps = np.zeros(3, np.float32), np.zeros(6), np.zeros(1, np.int64)
    module.launch("sgd", (7,), (256,), [x, x, None, hyper, steps, 3], shared=16)
    name, grid, block, args, shared = cupy.started[0]
    assert (name, grid, block, shared) == ("sgd", (7,), (256,), 16)
    assert args[0] is x
    assert args[3] is hyper
    assert [type(a) for a in args[:-1]] == [np.ndarray, np.ndarray, np.uint64, np.ndarray, np.ndarray]
    assert args[2] == 0
    assert type(args[5]) is np.int32
    partial, out = np.ones((2, 4, 3), np.float32), [np.zeros(4, np.float32) for _ in range(4)]
    module.launch("merge_moments", (4,), (256,), [partial, None, 1e-5, *out, 2, 4])
    assert type(cupy.started[1][3][2]) is np.float64


def test_wrong_arguments_are_refused(cupy):
    x, hyper, steps = np.zeros(4, np.float32), np.zeros(6), np.zeros(1, np.int64)
    with pytest.raises(ShapeError, match="kernel sgd: takes 6 arguments, got 5"):
        module.launch("sgd", (1,), (256,), [x, x, x, hyper, steps])
    with pytest.raises(DtypeError, match="kernel sgd: takes an array of float64, got float32"):
        module.launch("sgd", (1,), (256,), [x, x, x, x, steps, 4])
    with pytest.raises(
        ShapeError, match=r"kernel sgd: takes contiguous arrays, got strides \(8,\) of \(2,\)"
    ):
        module.launch("sgd", (1,), (256,), [x, x[::2], x, hyper, steps, 4])
    with pytest.raises(DtypeError, match="kernel sgd: takes float32 or float64, got float16"):
        module.launch("sgd", (1,), (256,), [x.astype(np.float16), x, x, hyper, steps, 4])
    assert cupy.started == []


def test_which_arrays_are_served(cupy):
    assert module.serves(cupy)
    assert not module.serves(np)


def test_without_a_gpu_the_error_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(backend.cuda, "why_not", lambda: "CuPy is not installed")
    with pytest.raises(DeviceError, match="device 'cuda' cannot be used: CuPy is not installed"):
        module.CupyLauncher().empty((1,), "float32")


@pytest.mark.parametrize(
    ("elements", "each", "most", "expected"),
    [
        (1, 1, 64, 1),
        (256, 1, 64, 1),
        (257, 1, 64, 2),
        (10**6, 1, 64, 64),
        (1025, 4, 64, 2),
        (10**6, 1, 1024, 1024),
    ],
)
def test_number_of_blocks(elements, each, most, expected):
    assert module.blocks(elements, each, most) == expected
