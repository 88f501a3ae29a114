"""`import minigrad` brings NumPy and nothing heavier.

Each test starts a new interpreter, because this one has long imported everything.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Standard-library modules that cost real time or open doors: sockets, processes, event loops, servers.
HEAVY = {
    "asyncio",
    "concurrent",
    "ctypes",
    "email",
    "html",
    "http",
    "logging",
    "multiprocessing",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "tkinter",
    "unittest",
    "urllib",
    "xml",
}


def loaded_by(statements: str) -> set[str]:
    """Names in sys.modules after `statements`, in a fresh interpreter."""
    code = f"import sys, json\n{statements}\nprint(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stderr == ""
    return set(json.loads(run.stdout))


def roots(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.fixture(scope="module")
def added() -> set[str]:
    """What `import minigrad` loads beyond `import numpy`."""
    return loaded_by("import minigrad") - loaded_by("import numpy")


def test_only_numpy_and_the_standard_library(added):
    assert roots(added) - set(sys.stdlib_module_names) == {"minigrad"}


def test_no_heavy_part_of_the_standard_library(added):
    assert roots(added) & HEAVY == set()


def test_no_part_of_numpy_that_numpy_itself_leaves_out(added):
    """numpy.random costs a good part of what NumPy costs; it can wait for the first random number."""
    assert {name for name in added if name.startswith("numpy.")} == set()


def test_the_whole_interface_is_there_after_one_import():
    modules = loaded_by(
        "import minigrad as mg; mg.nn.functional, mg.nn.init, mg.optim, mg.testing, mg.backend"
    )
    assert {"minigrad.nn", "minigrad.optim", "minigrad.testing"} <= modules


def test_this_test_would_notice():
    """The comparison sees a package that is loaded after all."""
    assert "http" in roots(loaded_by("import numpy, http.client") - loaded_by("import numpy"))
