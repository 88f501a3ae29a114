"""On a GPU: every kernel as on the CPU, and the fused model as its layers. Skipped where there is no GPU.

What differs is rounding: a GPU multiplies and adds in one step, and its exp is another one.
"""

import copy
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import backend, nn
from minigrad.kernels.cuda import module
from minigrad.models.lenet import lenet_bn
from tests.kernels.cuda.emulator import COMPILER, CpuLauncher
from tests.kernels.cuda.test_barriers import DTYPES, KERNELS, Start, copies, record

WHY_NOT = backend.cuda.why_not()
on_gpu = [pytest.mark.gpu, pytest.mark.skipif(WHY_NOT is not None, reason=f"needs a GPU: {WHY_NOT}")]
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs g++, which makes the expected values")
LIMIT = {"float32": 1e-5, "float64": 1e-12}


def results(launcher: module.Launcher, to_device: Any, name: str, start: Start) -> list[np.ndarray]:
    """All arrays after a kernel has run on copies of its arguments."""
    dtype, grid, block, args = start
    args = [to_device(a) if isinstance(a, np.ndarray) else a for a in copies(args)]
    launcher.start(name, dtype, grid, block, args, 0)
    return [backend.to_numpy(a) for a in args if backend.is_array(a)]


def assert_near(found: list[np.ndarray], expected: list[np.ndarray], limit: float) -> None:
    for f, e in zip(found, expected, strict=True):
        if e.dtype.kind == "f":
            scale = np.nanmax(np.abs(e), initial=1)
            np.testing.assert_allclose(f, e, rtol=0, atol=limit * scale)
        else:
            np.testing.assert_array_equal(f, e)


@pytest.fixture(scope="module")
def recorded() -> dict[str, dict[str, Start]]:
    return {dtype: record(dtype) for dtype in DTYPES}


def to_cuda(array: np.ndarray) -> Any:
    return backend.to_device(array, "cuda")


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param(lambda: (CpuLauncher("reverse"), lambda a: a), id="cpu"),  # the test itself, anywhere
        pytest.param(lambda: (module.CupyLauncher(), to_cuda), marks=on_gpu, id="gpu"),
    ],
)
@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_gives_what_it_gives_on_the_cpu(name, launcher, dtype, recorded):
    if name == "pack":
        pytest.skip("is given addresses of the host here")
    start = recorded[dtype][name]
    expected = results(CpuLauncher(), lambda a: a, name, start)
    device_launcher, to_device = launcher()
    first = results(device_launcher, to_device, name, start)
    assert_near(first, expected, LIMIT[dtype])
    for found, again in zip(first, results(device_launcher, to_device, name, start), strict=True):
        np.testing.assert_array_equal(found, again)  # the same bits each time


def train(net: nn.Module, device: str, dtype: Any, compiled: bool) -> dict[str, np.ndarray]:
    """The state after three steps and the scores in evaluation mode, on the host."""
    rng = np.random.default_rng(0)
    net = net.to(dtype).to(device)
    model = mg.compile(net) if compiled else net
    optimizer = mg.optim.SGD(net.parameters(), lr=0.5, momentum=0.9)
    for _ in range(3):
        x, labels = rng.random((40, 1, 28, 28)).astype(dtype), rng.integers(0, 10, 40)
        optimizer.zero_grad()
        scores = model(mg.tensor(x).to(device))
        nn.functional.cross_entropy(scores, mg.tensor(labels).to(device)).backward()
        optimizer.step()
    found = {name: backend.to_numpy(value.array).copy() for name, value in net.state_dict().items()}
    model.eval()
    with mg.no_grad():
        found["scores"] = backend.to_numpy(model(mg.tensor(x).to(device)).array)
    return found


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=on_gpu)])
@pytest.mark.parametrize(("dtype", "limit"), [(np.float64, 1e-9), (np.float32, 1e-3)])
def test_training_on_the_gpu_is_training_on_the_cpu(device, dtype, limit):
    net = lenet_bn()
    expected = train(copy.deepcopy(net), "cpu", np.float64, compiled=False)
    found = train(net, device, dtype, compiled=True)
    assert list(found) == list(expected)
    for name, e in expected.items():
        np.testing.assert_allclose(found[name], e, rtol=0, atol=limit * max(1, np.abs(e).max()), err_msg=name)
