"""All kernels compile for the cards that they are meant for, without a warning, where a CUDA compiler is at hand."""

import ctypes
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from minigrad.kernels.cuda import module

ARCHITECTURES = ("sm_80", "sm_90")
NVCC = shutil.which("nvcc")


def nvrtc_libraries() -> Iterator[str]:
    """Files of NVRTC: on the loader's path, of a CUDA toolkit, or of NVIDIA's wheels."""
    for version in (13, 12):
        yield f"libnvrtc.so.{version}"
    folders = [Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))]
    spec = importlib.util.find_spec("nvidia")
    if spec is not None:
        folders += [Path(place) for place in spec.submodule_search_locations or ()]
    for folder in folders:
        yield from sorted(str(path) for path in folder.rglob("libnvrtc.so.*") if "alt" not in path.name)


def load_nvrtc() -> ctypes.CDLL | None:
    for name in nvrtc_libraries():
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


NVRTC = load_nvrtc()


@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
@pytest.mark.parametrize("dtype", module.REALS)
def test_nvcc(dtype, tmp_path):
    """Both architectures at once, as CuPy's options say."""
    source = tmp_path / "kernels.cu"
    source.write_text(module.source(dtype), encoding="utf-8")
    command = [NVCC, *module.OPTIONS, "--Werror", "all-warnings", "-Xptxas", "-v", "-fatbin"]
    command += [f"-gencode=arch=compute_{a[3:]},code={a}" for a in ARCHITECTURES]
    done = subprocess.run(
        [*command, str(source), "-o", str(tmp_path / "k.fatbin")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    log = done.stdout + done.stderr
    for architecture in ARCHITECTURES:
        compiled = log.count(f"for '{architecture}'")
        assert compiled == len(module.signatures(module.source(dtype))), architecture


@pytest.mark.skipif(NVRTC is None, reason="NVRTC is not installed")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", module.REALS)
def test_nvrtc(dtype, architecture):
    """The compiler that CuPy uses; it has no header files of the C++ library."""
    assert NVRTC is not None
    program = ctypes.c_void_p()
    text = module.source(dtype).encode()
    assert NVRTC.nvrtcCreateProgram(ctypes.byref(program), text, b"kernels.cu", 0, None, None) == 0
    options = [option.encode() for option in (*module.OPTIONS, f"-arch={architecture}")]
    outcome = NVRTC.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    size = ctypes.c_size_t()
    assert NVRTC.nvrtcGetProgramLogSize(program, ctypes.byref(size)) == 0
    log = ctypes.create_string_buffer(size.value)
    assert NVRTC.nvrtcGetProgramLog(program, log) == 0
    NVRTC.nvrtcDestroyProgram(ctypes.byref(program))
    assert outcome == 0, log.value.decode()
    assert log.value.decode() == ""
