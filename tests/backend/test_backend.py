"""The switch between array libraries: devices, copies, what is said about a missing GPU, random numbers."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from minigrad import backend
from minigrad.errors import ArgumentError, DeviceError
from tests import strict

# 1. Devices ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["cpu", "cpu:0", None, backend.Device("cpu"), backend.CPU])
def test_the_cpu(spec):
    device = backend.device(spec)
    assert (device.type, device.index, str(device)) == ("cpu", 0, "cpu")
    assert repr(device) == "device(type='cpu')"


def test_a_device_with_an_index():
    device = backend.Device("cuda", 1)
    assert (device.type, device.index, str(device)) == ("cuda", 1, "cuda:1")
    assert repr(device) == "device(type='cuda', index=1)"
    assert str(backend.Device("cuda")) == "cuda:0"


def test_equality():
    cuda = backend.Device("cuda", 0)
    assert cuda == backend.Device("cuda", 0)
    assert hash(cuda) == hash(backend.Device("cuda", 0))
    assert cuda == "cuda:0"
    assert cuda == "cuda"
    assert backend.CPU == "cpu"
    assert cuda != "cuda:1"
    assert cuda != backend.Device("cuda", 1)
    assert cuda != "cpu"
    assert backend.CPU != "cuda"
    assert backend.Device("cuda", 1) != "cuda"
    assert backend.CPU != 0
    assert backend.CPU is not None


@pytest.mark.parametrize(
    "spec", ["gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "", "cpu cuda", 1.5, True, ["cpu"]]
)
def test_unknown_device(spec):
    with pytest.raises(ArgumentError) as caught:
        backend.device(spec)
    assert str(caught.value) == f"unknown device {spec!r}: use 'cpu', 'cuda' or 'cuda:0'"


def test_the_cpu_has_one_index():
    with pytest.raises(ArgumentError, match="unknown device 'cpu:1': 'cpu' has no index other than 0"):
        backend.device("cpu:1")


def test_an_unregistered_device_is_unknown():
    with pytest.raises(ArgumentError, match="unknown device 'tpu'"):
        backend.to_device(np.ones(3), "tpu")
    with pytest.raises(ArgumentError, match="unknown device"):
        backend.device(backend.Device("tpu"))


# 2. Arrays and copies ------------------------------------------------------------------------------------


def test_copies_between_devices(device):
    host = np.arange(6, dtype=np.float32).reshape(2, 3)
    there = backend.to_device(host, device)
    assert backend.is_array(there)
    assert backend.device_of(there) == device
    assert backend.backend_of(there).name == device
    assert backend.namespace(there) is backend.backend_of(there).xp
    assert backend.to_device(there, device) is there
    doubled = backend.to_numpy(there * 2)
    assert isinstance(doubled, np.ndarray)
    np.testing.assert_array_equal(doubled, host * 2)
    np.testing.assert_array_equal(backend.to_device(there, "cpu"), host)
    backend.synchronize(device)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float16", "float32", "float64"])
def test_copies_keep_dtype_and_shape(device, dtype):
    for host in (np.ones((), dtype), np.ones((0, 3), dtype), np.ones((2, 3), dtype).T):
        back = backend.to_numpy(backend.to_device(host, device))
        assert (back.dtype, back.shape) == (host.dtype, host.shape)
        np.testing.assert_array_equal(back, host)


def test_the_cpu_copies_nothing():
    host = np.ones(3)
    assert backend.to_device(host, "cpu") is host
    assert backend.to_device(host, None) is host
    assert backend.to_numpy(host) is host
    assert backend.namespace(host, host) is np
    assert backend.namespace() is np


def test_a_copy_on_another_device_is_a_copy():
    strict.install()
    host = np.ones(3)
    there = backend.to_device(host, "strict")
    host += 1
    assert there.tolist() == [1, 1, 1]
    back = backend.to_numpy(there)
    back += 1
    assert there.tolist() == [1, 1, 1]


def test_a_mixture_is_refused():
    strict.install()
    there = backend.to_device(np.ones(3), "strict")
    with pytest.raises(DeviceError) as caught:
        backend.namespace(np.ones(3), there)
    assert str(caught.value) == (
        "arrays live on different devices: cpu and strict; move them together with .to('cpu')"
    )
    with pytest.raises(DeviceError, match="cpu and strict"):
        backend.namespace(there, there, np.ones(3))


@pytest.mark.parametrize("value", [[1.0], 1.0, np.float64(1), None, "cpu"])
def test_what_is_no_array(value):
    assert not backend.is_array(value)
    name = type(value).__name__
    for function in (backend.namespace, backend.device_of, backend.to_numpy, backend.backend_of):
        with pytest.raises(DeviceError, match=f"expected an array, got {name}"):
            function(value)


def test_subclasses_of_numpy_arrays_are_numpy_arrays(tmp_path):
    mapped = np.memmap(tmp_path / "x.bin", dtype=np.float32, mode="w+", shape=(2, 2))
    assert backend.is_array(mapped)
    assert backend.namespace(mapped, np.ones(2)) is np
    assert backend.device_of(mapped) == "cpu"


def test_registering_again_changes_nothing():
    first = strict.install()
    there = backend.to_device(np.ones(3), "strict")
    assert strict.install() is first
    assert backend.namespace(there) is strict.xp
    assert backend.device("strict") == backend.device_of(there)
    assert str(backend.device("strict")) == "strict:0"


def test_a_backend_cannot_be_changed():
    with pytest.raises(AttributeError):
        strict.install().name = "other"  # type: ignore[misc]


# 3. A missing GPU ----------------------------------------------------------------------------------------

BOTH_WHEELS = ("pip install 'cupy-cuda13x[ctk]'", "pip install 'cupy-cuda12x[ctk]'")


def fake_cupy(driver: int, devices: int | Exception) -> ModuleType:
    """As much of CuPy as a search for a GPU touches."""

    def device_count() -> int:
        if isinstance(devices, Exception):
            raise devices
        return devices

    cupy: Any = ModuleType("cupy")
    cupy.ndarray = type("ndarray", (), {"__module__": "cupy"})
    cupy.cuda = SimpleNamespace(
        runtime=SimpleNamespace(driverGetVersion=lambda: driver, getDeviceCount=device_count)
    )
    return cupy


@pytest.fixture
def without_cuda(monkeypatch):
    """The state before anybody asked for a CUDA device, also on a machine that has one."""
    registry = sys.modules["minigrad.backend.registry"]
    for table in ("_by_name", "_by_type"):
        kept = {k: v for k, v in getattr(registry, table).items() if getattr(v, "name", None) != "cuda"}
        monkeypatch.setattr(registry, table, kept)


MISSING = {
    "CuPy": (None, ["CuPy is not installed", *BOTH_WHEELS]),
    "driver": (fake_cupy(0, RuntimeError("no driver")), ["CuPy is installed", "no NVIDIA driver"]),
    "driver does not answer": (fake_cupy(13000, RuntimeError("error 999")), ["driver", "error 999"]),
    "device": (fake_cupy(13000, 0), ["there is no CUDA device", "CUDA_VISIBLE_DEVICES"]),
}


@pytest.mark.parametrize("case", MISSING)
def test_a_missing_gpu_explains_itself(monkeypatch, without_cuda, case):
    module, words = MISSING[case]
    monkeypatch.setitem(sys.modules, "cupy", module)
    assert backend.cuda.is_available() is False
    assert backend.cuda.device_count() == 0
    for ask in (
        backend.cuda.load,
        lambda: backend.device("cuda"),
        lambda: backend.device("cuda:0"),
        lambda: backend.device(0),
        lambda: backend.to_device(np.ones(3), "cuda"),
    ):
        with pytest.raises(DeviceError) as caught:
            ask()
        message = str(caught.value)
        assert message.startswith("device 'cuda' cannot be used: ")
        assert "\n" not in message
        for word in words:
            assert word in message


@pytest.mark.parametrize(
    "error", [ImportError("libcudart.so: not found"), ModuleNotFoundError(name="fastrlock")]
)
def test_a_broken_cupy_explains_itself(monkeypatch, without_cuda, error):
    class Broken:
        def find_spec(self, name: str, *rest: Any) -> None:
            if name == "cupy":
                raise error

    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(DeviceError, match="CuPy is installed but does not import") as caught:
        backend.device("cuda")
    assert str(error) in str(caught.value)
    for line in BOTH_WHEELS:
        assert line in str(caught.value)


def test_a_gpu_that_is_there_is_found(monkeypatch, without_cuda):
    cupy = fake_cupy(13000, 2)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert backend.cuda.is_available()
    assert backend.cuda.device_count() == 2
    assert backend.cuda.load() is cupy
    assert str(backend.device("cuda")) == "cuda:0"
    assert str(backend.device(1)) == "cuda:1"
    with pytest.raises(DeviceError, match=r"device cuda:2 does not exist: .* 2 CUDA device\(s\), 0 to 1"):
        backend.device("cuda:2")


def test_a_negative_device_is_refused(monkeypatch, without_cuda):
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(13000, 2))
    with pytest.raises((ArgumentError, DeviceError), match="-1"):
        backend.device(-1)


def test_an_array_of_cupy_makes_it_known(monkeypatch, without_cuda):
    cupy = fake_cupy(13000, 1)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert backend.namespace(cupy.ndarray()) is cupy


def test_nothing_imports_cupy_unasked():
    """Neither the import nor work on the CPU, nor asking for the name of a device."""
    program = (
        "import sys, minigrad as mg\n"
        "from minigrad import backend\n"
        "backend.namespace(backend.to_device(backend.to_numpy(mg.tensor([1.0]).array), 'cpu'))\n"
        "backend.Device('cuda'); backend.device('cpu'); backend.random.manual_seed(0)\n"
        "print([name for name in sys.modules if name.startswith('cupy')])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
    assert run.stderr == ""


# 4. Random numbers ---------------------------------------------------------------------------------------


@pytest.fixture
def own_generator():
    """Later tests go on with the generator that they had."""
    state = backend.random.get_state()
    yield
    backend.random.set_state(state)


@pytest.mark.usefixtures("own_generator")
class TestRandom:
    def test_a_seed_gives_numpys_numbers(self):
        assert backend.random.manual_seed(7) is backend.random.generator()
        drawn = backend.random.generator().normal(size=3)
        np.testing.assert_array_equal(drawn, np.random.default_rng(7).normal(size=3))

    def test_seeds_differ_and_repeat(self):
        draws = [backend.random.manual_seed(seed).random() for seed in (0, 1, 0)]
        assert draws[0] == draws[2] != draws[1]

    def test_a_seed_may_be_a_numpy_integer(self):
        assert backend.random.manual_seed(np.int64(7)).random() == np.random.default_rng(7).random()  # type: ignore[arg-type]

    def test_the_state_can_be_put_back(self):
        backend.random.manual_seed(3)
        backend.random.generator().random(5)
        state = backend.random.get_state()
        first = backend.random.generator().random(4)
        backend.random.manual_seed(99)
        backend.random.set_state(state)
        np.testing.assert_array_equal(backend.random.generator().random(4), first)

    def test_a_state_does_not_change_when_numbers_are_drawn(self):
        state = backend.random.get_state()
        first = backend.random.generator().random()
        backend.random.set_state(state)
        assert backend.random.generator().random() == first

    @pytest.mark.parametrize("seed", [-1, 1.5, "0", None, True])
    def test_a_bad_seed_is_refused(self, seed):
        with pytest.raises(ArgumentError, match="whole number of at least 0") as caught:
            backend.random.manual_seed(seed)
        assert repr(seed) in str(caught.value)

    def test_numpys_global_numbers_are_left_alone(self):
        np.random.seed(5)  # noqa: NPY002
        want = np.random.random()  # noqa: NPY002
        np.random.seed(5)  # noqa: NPY002
        backend.random.manual_seed(0)
        backend.random.generator().random(3)
        assert np.random.random() == want  # noqa: NPY002
