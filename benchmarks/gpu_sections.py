"""The sections of `gpu_check.py`; each runs in a process of its own and reports one line a check.

Everything is compared with the same computation on the CPU, which the tests compare with loops, formulas and
PyTorch. The examples are those of the tests. With the device "strict" the sections run on the stand-in for CuPy.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg
from benchmarks.children import report
from minigrad import backend, models, nn, optim
from minigrad.data import ArrayDataset, DataLoader, garments
from minigrad.nn import functional as F
from minigrad.training import CapturedTesting, CapturedTraining, evaluate, train_epoch

__all__ = ["run_section"]

OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "SGD with momentum": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3, nesterov=True),
    "Adam": lambda p: optim.Adam(p, lr=1e-3),
}


def run_section(name: str, device: str) -> int:
    """Run one section; a check that raises is a check that failed."""
    if device == "strict":
        from tests import strict

        strict.install()
    SECTIONS[name](device)
    return 0


def check(name: str, function: Callable[[], str | None]) -> None:
    """Run one check: it raises if something is wrong, and may return a note."""
    try:
        note, ok = function() or "", True
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        note, ok = f"{type(error).__name__}: {' '.join(lines[:4])[:300]}", False
    report(check=name, ok=ok, note=note)


def close(found: Any, expected: Any, tolerance: float) -> None:
    """Same shape, dtype, and numbers up to `tolerance` of the largest one."""
    a, b = host(found), host(expected)
    assert (a.shape, a.dtype) == (b.shape, b.dtype), f"{a.shape} {a.dtype}, expected {b.shape} {b.dtype}"
    if b.size:
        with np.errstate(invalid="ignore"):
            finite = b[np.isfinite(b)]
        scale = max(1.0, float(np.abs(finite).max())) if finite.size else 1.0
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale)


def host(value: Any) -> np.ndarray:
    return backend.to_numpy(value.array if isinstance(value, mg.Tensor) else value)


# 1. Machine ---


def machine(device: str) -> None:
    def versions() -> str:
        xp = backend.namespace(mg.zeros(1, device=device).array)
        return f"minigrad {mg.__version__}, NumPy {np.__version__}, {xp.__name__} {getattr(xp, '__version__', '')}"

    def card() -> str:
        if device != "cuda":
            return f"device {device}"
        properties = backend.cuda.load().cuda.runtime.getDeviceProperties(0)
        return f"{properties['name'].decode()}, {properties['multiProcessorCount']} multiprocessors"

    def compile_time() -> str:
        started = time.perf_counter()
        model = mg.compile(models.lenet_bn().to(device))
        x, y = mg.zeros(4, 1, 28, 28, device=device), mg.zeros(4, dtype=mg.int64, device=device)
        F.cross_entropy(model(x), y).backward()
        backend.synchronize(device)
        return f"kernels compiled, or read from the disk, and run in {time.perf_counter() - started:.1f} s"

    check("versions", versions)
    check("card", card)
    check("first step", compile_time)


# 2. Operations and layers, on the examples of the tests ---


def results(function: Callable[..., Any], inputs: Any, device: str, dtype: str, order: str) -> list[Any]:
    """Results and gradients for a fixed cotangent."""
    mg.manual_seed(0)
    arrays = [np.array(x.astype(dtype), order="F" if order == "columns" else "C") for x in inputs]
    xs = [mg.Tensor(backend.to_device(a, device), requires_grad=True) for a in arrays]
    ys = function(*xs)
    ys = list(ys) if isinstance(ys, (tuple, list)) else [ys]
    for y in ys:
        if y.requires_grad:
            gy = np.random.default_rng(1).standard_normal(y.shape).astype(dtype)
            y.backward(mg.Tensor(backend.to_device(np.asarray(gy), y.device)), retain_graph=True)
    return [y.detach() for y in ys] + [x.grad for x in xs if x.grad is not None]


def compare(name: str, function: Callable[..., Any], inputs: Any, device: str) -> None:
    def body() -> None:
        for dtype, tolerance in (("float64", 1e-9), ("float32", 2e-4)):
            for order in ("rows", "columns"):
                expected = results(function, inputs, "cpu", dtype, "rows")
                found = results(function, inputs, device, dtype, order)
                assert len(found) == len(expected)
                for a, b in zip(found, expected, strict=True):
                    close(a, b, tolerance)

    check(name, body)


def operations(device: str) -> None:
    from tests.core.cases import CASES

    for name, case in CASES.items():
        if name not in ("cast", "to device"):
            compare(name, lambda *xs, case=case: case.call(case.op.apply, *xs), case.inputs, device)


def layers(device: str) -> None:
    from tests.nn.functional.cases import PUBLIC

    for name, calls in PUBLIC.items():
        for number, (function, inputs) in enumerate(calls, start=1):
            compare(f"{name}, example {number}", function, inputs, device)


# 3. Fused blocks ---

BLOCKS = [  # channels in, height = width, channels out, kernel, stride, padding, pooled, batch
    (1, 28, 6, 5, 1, 0, True, 256),
    (6, 12, 16, 5, 1, 0, True, 256),
    (3, 32, 16, 3, 1, 1, False, 33),
    (16, 9, 40, 3, 2, 1, False, 7),
    (5, 8, 3, 1, 1, 0, True, 2),
]


def blocks(device: str) -> None:
    mg.manual_seed(0)
    for activation in (nn.Sigmoid, nn.ReLU, nn.Tanh):
        for C, H, O, K, stride, padding, pooled, N in BLOCKS:
            made = [nn.Conv2d(C, O, K, stride, padding), nn.BatchNorm2d(O), activation()]
            made += [nn.MaxPool2d(2, 2)] if pooled else []
            check(
                f"{activation.__name__} {(C, H, O, K, stride, padding, pooled, N)}",
                lambda made=made, shape=(N, C, H, H): block(nn.Sequential(*made), shape, device),
            )
    for N, features, out in ((256, 256, 120), (256, 120, 84), (96, 84, 10), (3, 7, 5)):
        made = nn.Sequential(nn.Linear(features, out), nn.BatchNorm1d(out), nn.Sigmoid(), nn.Linear(out, 3))
        check(f"linear {(N, features, out)}", lambda m=made, s=(N, features): block(m, s, device))


def block(model: nn.Sequential, shape: tuple[int, ...], device: str) -> None:
    """Forward, backward and running statistics as on the CPU; twice on the device gives the same bits.

    Pictures and weights are multiples of 1/4, the same in each run: sums of their products are exact everywhere, so
    that rounding does not decide which of two values is the maximum, and with it where a gradient goes.
    """
    rng = np.random.default_rng(0)

    def quarters(shape: tuple[int, ...]) -> np.ndarray:
        return (rng.integers(-4, 5, shape) / 4).astype(np.float32)

    weights = {name: host(value).copy() for name, value in model.state_dict().items()}
    for name, _ in model[0].named_parameters():  # of the convolution, or the linear layer
        weights[f"0.{name}"] = quarters(weights[f"0.{name}"].shape)
    x = quarters(shape)
    found = []
    for where in ("cpu", device, device):
        model.to("cpu").load_state_dict(weights)
        model.to(where).zero_grad()
        run = mg.compile(model) if where != "cpu" else model
        xs = mg.tensor(x, device=where, requires_grad=True)
        y = run(xs)
        gy = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
        y.backward(mg.tensor(gy, device=where))
        gradients = [host(p.grad).copy() for p in model.parameters()]
        buffers = [host(b).copy() for b in model.buffers()]
        found.append([host(y).copy(), host(xs.grad).copy(), *gradients, *buffers])
    for a, b in zip(found[1], found[0], strict=True):
        close(a, b, 2e-3)
    for a, b in zip(found[1], found[2], strict=True):
        assert a.tobytes() == b.tobytes(), "two runs differ: something is not deterministic"


# 4. Training ---


def pictures(examples: int, seed: int = 0) -> ArrayDataset:
    return ArrayDataset(*garments(True, examples, seed=seed))


def steps(device: str) -> None:
    """lenet_bn, step by step beside the CPU, in float64, where the two may hardly differ; then in float32."""
    for name, make in OPTIMIZERS.items():
        for dtype, tolerance in ((mg.float64, 1e-7), (mg.float32, 2e-2)):
            for compiled in (False, True):
                title = f"{name}, {dtype}, {'fused' if compiled else 'layer by layer'}"
                check(title, lambda m=make, t=dtype, x=tolerance, c=compiled: follow(m, t, x, c, device))


def follow(make: Any, dtype: Any, tolerance: float, compiled: bool, device: str) -> str:
    mg.manual_seed(0)
    here, there = models.lenet_bn().to(dtype), models.lenet_bn().to(dtype)
    there.load_state_dict(here.state_dict())
    there.to(device)
    runs = mg.compile(there) if compiled else there
    optimizers = make(here.parameters()), make(there.parameters())
    data = list(DataLoader(pictures(64 * 7 + 20), 64))  # 7 full batches and a short one
    worst = 0.0
    for number, (X, y) in enumerate(data, start=1):
        losses = []
        for model, optimizer, where in ((here, optimizers[0], "cpu"), (runs, optimizers[1], device)):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(X.to(dtype).to(where)), y.to(where))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        worst = max(worst, abs(losses[0] - losses[1]) / abs(losses[0]))
        assert worst <= tolerance, f"step {number}: loss {losses[1]} and on the CPU {losses[0]}"
    return f"largest difference of the loss in {len(data)} steps: {worst:.1e}"


def captured(device: str) -> None:
    """Epochs of captured steps against eager epochs on the same device, and against the CPU; captured evaluation."""
    for name, make in OPTIMIZERS.items():
        check(f"{name}, captured", lambda m=make: captured_epochs(m, device))


def captured_epochs(make: Any, device: str) -> str:
    data, said = pictures(64 * 6 + 20), []
    found = {}
    for kind in ("cpu", "eager", "captured"):
        mg.manual_seed(0)
        model = models.lenet_bn()
        model = model if kind == "cpu" else mg.compile(model.to(device))
        optimizer = make(model.parameters())
        loader = DataLoader(data, 64, shuffle=True, generator=3, device=None if kind == "cpu" else device)
        if kind == "captured":
            training = CapturedTraining(model, loader, optimizer, say=said.append)
            found[kind] = [training.epoch(epoch) for epoch in (1, 2)]
            test_loader = DataLoader(data, 64, device=device)
            testing = CapturedTesting(model, test_loader, say=said.append)
            assert testing.accuracy() == evaluate(model, test_loader), (
                "captured evaluation differs from evaluate"
            )
        else:
            found[kind] = [train_epoch(model, loader, optimizer, epoch=epoch) for epoch in (1, 2)]
    assert not said, said[0]
    for a, b in zip(found["captured"], found["eager"], strict=True):
        assert abs(a.loss - b.loss) <= 1e-3 * b.loss, f"loss {a.loss}, eager {b.loss}"
    for a, b in zip(found["captured"], found["cpu"], strict=True):
        assert abs(a.loss - b.loss) <= 2e-2 * b.loss, f"loss {a.loss}, on the CPU {b.loss}"
    return "loss " + ", ".join(f"{kind} {figures[-1].loss:.5f}" for kind, figures in found.items())


def epochs(device: str, train: int = 60000, count: int = 10, on_cpu: int = 2) -> None:
    """Ten epochs of the tutorial's run on the device; the first ones also on the CPU."""
    if device != "cuda":
        train, count, on_cpu = 300, 2, 2
    bundle = mg.data.load(
        "auto" if device == "cuda" else "garments", train_size=train, test_size=min(train, 10000)
    )
    figures: dict[str, list[tuple[float, float]]] = {}

    def run(where: str, number: int) -> str:
        mg.manual_seed(0)
        model = mg.compile(models.get("lenet_bn").make().to(where))
        there = None if where == "cpu" else where
        loaders = [
            DataLoader(d, 256, shuffle=s, device=there)
            for d, s in ((bundle.train, True), (bundle.test, False))
        ]
        training = CapturedTraining(model, loaders[0], optim.SGD(model.parameters(), lr=1.0))
        figures[where] = []
        for epoch in range(1, number + 1):
            loss = training.epoch(epoch).loss
            figures[where].append((loss, evaluate(model, loaders[1])))
        text = ", ".join(f"{loss:.4f} ({accuracy:.3f})" for loss, accuracy in figures[where])
        return f"{bundle.title}: training loss (test accuracy) by epoch: {text}"

    def agree() -> None:
        for (a, _), (b, _) in zip(figures[device], figures["cpu"], strict=False):
            assert abs(a - b) <= 0.03 * b, f"training loss {a} and on the CPU {b}"

    check(f"{count} epochs on {device}", lambda: run(device, count))
    check(f"{on_cpu} epochs on the CPU", lambda: run("cpu", on_cpu))
    check("the same figures", agree)


# 5. Other programs ---


def sanitized(device: str) -> None:
    """What runs under compute-sanitizer: small, since everything is slow there."""
    for N, C, H, O in ((5, 2, 9, 3), (17, 1, 8, 18)):
        made = nn.Sequential(nn.Conv2d(C, O, 3, padding=1), nn.BatchNorm2d(O), nn.Sigmoid())
        check(f"convolution {(N, C, H, O)}", lambda m=made, s=(N, C, H, H): block(m, s, device))
    made = nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    check("linear", lambda: block(made, (19, 7), device))
    check("captured epochs", lambda: captured_epochs(OPTIMIZERS["Adam"], device))


def pytest_section(device: str) -> None:
    if importlib.util.find_spec("pytest") is None or device != "cuda":
        report(check="pytest -m gpu", ok=True, note="not run: pytest is not installed here")
        return
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, capture_output=True, text=True)
    last = (done.stdout.strip().splitlines() or ["without a word"])[-1]
    report(check="pytest -m gpu", ok=done.returncode == 0, note=last)


SECTIONS: dict[str, Callable[[str], None]] = {
    "machine": machine,
    "operations": operations,
    "layers": layers,
    "blocks": blocks,
    "steps": steps,
    "captured": captured,
    "epochs": epochs,
    "sanitized": sanitized,
    "pytest": pytest_section,
}
