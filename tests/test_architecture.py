"""The rules of the house, read from the source with `ast`: nothing here imports minigrad.

Imports point one way, also inside functions; no module is part of a cycle; files are short enough to read;
and what is heavy, dangerous or noisy stays where it belongs. `ORDER` is the list of docs/architecture.md.
The second half of this file turns the checks on made-up sources that break each rule.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "minigrad"
MAX_LINES = 400

# A module may import what stands above it in this list, and its neighbours in the same line. An entry covers
# a package with all it contains, unless a longer one fits. A new module has to be placed here and in
# docs/architecture.md.
ORDER = [
    "minigrad._version",
    "minigrad.errors",
    "minigrad.shapes",
    "minigrad.dtypes",
    "minigrad.backend",
    "minigrad.kernels",
    "minigrad.grad_mode",
    "minigrad.engine",
    "minigrad.autograd",
    "minigrad.ops",
    "minigrad.operands",
    "minigrad.tensor_base",
    "minigrad.tensor_inplace",
    "minigrad.tensor_operators",
    "minigrad.tensor_reductions",
    "minigrad.tensor",
    "minigrad.creation",
    "minigrad.functions",
    "minigrad.testing",
    "minigrad.nn.functional",
    "minigrad.nn.init",
    "minigrad.nn",
    "minigrad.compiler",
    "minigrad.optim",
    "minigrad.data",
    "minigrad.checkpoint",
    "minigrad.models",
    "minigrad.plot",
    "minigrad.training",
    "minigrad.train",
    "minigrad.profile",
    "minigrad.d2l",
    "minigrad.experiments",
]
TOP = "minigrad"  # minigrad/__init__.py: imports from everywhere, is imported by nothing but USERS
USERS = "minigrad.experiments"  # written as a user's program, with `import minigrad as mg`

AT_MODULE_LEVEL = {"numpy"}  # the only third-party package that `import minigrad` may load
HOMES = {  # packages that may be imported in one place only
    "cupy": ("minigrad.backend", "minigrad.kernels.cuda"),
    "cupyx": ("minigrad.backend", "minigrad.kernels.cuda"),
    "matplotlib": ("minigrad.plot",),
    "torch": (),  # a yardstick for tests and benchmarks, never a part
}
LIGHT = {"minigrad", *AT_MODULE_LEVEL, *sys.stdlib_module_names}
UNSAFE = {"cloudpickle", "dill", "marshal", "pickle", "shelve"}  # loading a file must not run it


# 1. Reading imports --------------------------------------------------------------------------------------


def parse(sources: Mapping[str, str]) -> dict[str, ast.Module]:
    return {name: ast.parse(text, name) for name, text in sources.items()}


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def imports(module: str, tree: ast.Module, packages: set[str], known: set[str]) -> Iterator[tuple[str, int]]:
    """(imported module, line) for each import, at module level, in functions and through importlib.

    `from a import b` means the module a.b if there is one, else something in a.
    """
    here = module if module in packages else module.rpartition(".")[0]  # what a single dot stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = here.split(".")[: len(here.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield (inner if inner in known else base), node.lineno
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            name = node.args[0] if node.args else None
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield name.value, node.lineno
            else:
                yield "?", node.lineno


def called(node: ast.Call) -> str:
    """The last name of what is called: `load` for np.load(...)."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def at_module_level(tree: ast.Module) -> set[int]:
    """Lines that run when the module is imported."""
    inside = {
        inner.lineno
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for inner in ast.walk(node)
        if inner is not node and hasattr(inner, "lineno")
    }
    return {node.lineno for node in ast.walk(tree) if hasattr(node, "lineno")} - inside


# 2. The rules --------------------------------------------------------------------------------------------


def layer(module: str) -> int | None:
    """Position in ORDER, or None for a module that nobody has placed."""
    if module == TOP:
        return len(ORDER)
    entries = [entry for entry in ORDER if is_within(module, entry)]
    return ORDER.index(max(entries, key=len)) if entries else None


def upward_imports(sources: Mapping[str, str], packages: set[str]) -> list[str]:
    """Modules that have no place, and imports of what stands below in ORDER."""
    found = []
    for module, tree in parse(sources).items():
        place = layer(module)
        if place is None:
            found.append(f"{module} has no place in ORDER")
            continue
        for target, line in imports(module, tree, packages, set(sources)):
            if target == "?":
                # the package itself stands above everything, so it may import its parts by name
                if module != TOP:
                    found.append(f"{module}:{line} imports something that only shows when it runs")
            elif is_within(target, TOP) and not (target == TOP and is_within(module, USERS)):
                below = layer(target)
                if below is None or below > place:
                    found.append(f"{module}:{line} must not import {target}")
    return found


def cycles(sources: Mapping[str, str], packages: set[str]) -> list[str]:
    """Modules from which the imports lead back to themselves."""
    known = set(sources)
    edges = {
        module: {target for target, _ in imports(module, tree, packages, known) if target in known} - {module}
        for module, tree in parse(sources).items()
    }
    found = []
    for start in edges:
        reached: set[str] = set()
        todo = list(edges[start])
        while todo:
            module = todo.pop()
            if module not in reached:
                reached.add(module)
                todo += edges[module]
        if start in reached:
            found.append(start)
    return sorted(found)


def misplaced_imports(sources: Mapping[str, str], packages: set[str]) -> list[str]:
    """Star imports, unsafe packages, and heavy ones outside their home or loaded too early."""
    found = []
    for module, tree in parse(sources).items():
        early = at_module_level(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                found.append(f"{module}:{node.lineno} imports *")
        for target, line in imports(module, tree, packages, set(sources)):
            root = target.partition(".")[0]
            if root in UNSAFE:
                found.append(f"{module}:{line} imports {root}, which runs what it loads")
            elif root in HOMES and not any(is_within(module, home) for home in HOMES[root]):
                found.append(f"{module}:{line} must not import {root}")
            elif line in early and root not in LIGHT:
                found.append(f"{module}:{line} imports {root} before anybody asked for it")
    return found


def unsafe_calls(sources: Mapping[str, str]) -> list[str]:
    """np.load that might unpickle, and output to stderr (a grader takes that for a failure)."""
    found = []
    for module, tree in parse(sources).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                options = {keyword.arg: keyword.value for keyword in node.keywords}
                allow = options.get("allow_pickle")
                if allow is not None and not (isinstance(allow, ast.Constant) and allow.value is False):
                    found.append(f"{module}:{node.lineno} allow_pickle must be False")
                owner = node.func.value if isinstance(node.func, ast.Attribute) else None
                owner_name = owner.id if isinstance(owner, ast.Name) else ""
                if called(node) == "load" and owner_name in ("np", "numpy", "xp") and allow is None:
                    found.append(f"{module}:{node.lineno} np.load without allow_pickle=False")
                if called(node) == "warn" and owner_name == "warnings":
                    found.append(f"{module}:{node.lineno} warnings go to stderr")
            if isinstance(node, ast.Attribute) and node.attr in ("stderr", "__stderr__"):
                found.append(f"{module}:{node.lineno} uses {node.attr}")
    return found


def long_files(sources: Mapping[str, str]) -> list[str]:
    counts = {module: len(text.splitlines()) for module, text in sources.items()}
    return [f"{module} has {n} lines, more than {MAX_LINES}" for module, n in counts.items() if n > MAX_LINES]


# 3. The package keeps them ---------------------------------------------------------------------------------


def read_package() -> tuple[dict[str, str], set[str]]:
    """Module name -> source for every file, and the names that are packages."""
    sources, packages = {}, set()
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ["minigrad", *path.relative_to(PACKAGE).with_suffix("").parts]
        if parts[-1] == "__init__":
            parts.pop()
            packages.add(".".join(parts))
        sources[".".join(parts)] = path.read_text(encoding="utf-8")
    return sources, packages


SOURCES, PACKAGES = read_package()


def report(found: list[str]) -> None:
    assert not found, "\n" + "\n".join(found)


def test_imports_point_one_way():
    report(upward_imports(SOURCES, PACKAGES))


def test_no_cycles():
    report(cycles(SOURCES, PACKAGES))


def test_heavy_packages_stay_home():
    report(misplaced_imports(SOURCES, PACKAGES))


def test_nothing_is_unpickled_and_stderr_is_left_alone():
    report(unsafe_calls(SOURCES))


def test_files_are_short():
    report(long_files(SOURCES))


def test_order_has_no_leftovers():
    """An entry that fits no file would let the list drift away from the package."""
    assert [entry for entry in ORDER if not any(is_within(module, entry) for module in SOURCES)] == []


# 4. The checks notice when they are broken ------------------------------------------------------------------

GOOD = {
    "minigrad": "from minigrad.tensor import Tensor",
    "minigrad.errors": "import sys\nimport numpy as np",
    "minigrad.backend": "from minigrad.backend import cuda",
    "minigrad.backend.cuda": "from minigrad.errors import DeviceError\ndef load():\n    import cupy",
    "minigrad.tensor": "from minigrad import backend, errors",
    "minigrad.nn": "from minigrad.nn import functional\nfrom minigrad.nn.linear import Linear",
    "minigrad.nn.functional": "from minigrad.tensor import Tensor",
    "minigrad.nn.linear": "import minigrad.nn.functional as F",
    "minigrad.plot": "def show():\n    import matplotlib.pyplot as plt",
}
GOOD_PACKAGES = {"minigrad", "minigrad.backend", "minigrad.nn", "minigrad.nn.functional"}


def complaints(module: str, source: str) -> list[str]:
    """What all checks together say about the good package with one line added to one module."""
    sources = {**GOOD, module: GOOD.get(module, "") + "\n" + source}
    return [
        *upward_imports(sources, GOOD_PACKAGES),
        *cycles(sources, GOOD_PACKAGES),
        *misplaced_imports(sources, GOOD_PACKAGES),
        *unsafe_calls(sources),
        *long_files(sources),
    ]


def test_a_good_package_passes():
    assert complaints("minigrad.errors", "") == []


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("minigrad.errors", "from minigrad import backend", "must not import minigrad.backend"),
        ("minigrad.errors", "from minigrad.backend import cuda", "must not import minigrad.backend.cuda"),
        ("minigrad.errors", "import minigrad.tensor", "must not import minigrad.tensor"),
        ("minigrad.errors", "from .tensor import Tensor", "must not import minigrad.tensor"),
        ("minigrad.backend.cuda", "from ..tensor import Tensor", "must not import minigrad.tensor"),
        ("minigrad.backend.cuda", "from .. import tensor", "must not import minigrad.tensor"),
        ("minigrad.nn.functional", "from ..linear import Linear", "must not import minigrad.nn.linear"),
        ("minigrad.tensor", "def f():\n    from minigrad import nn", "must not import minigrad.nn"),
        (
            "minigrad.tensor",
            "class A:\n    def f(self):\n        import minigrad.nn",
            "must not import minigrad.nn",
        ),
        ("minigrad.tensor", "from minigrad import Tensor", "must not import minigrad"),
        ("minigrad.tensor", "import minigrad as mg", "must not import minigrad"),
        ("minigrad.tensor", "importlib.import_module('minigrad.nn')", "must not import minigrad.nn"),
        ("minigrad.tensor", "__import__('minigrad.nn')", "must not import minigrad.nn"),
        ("minigrad.tensor", "importlib.import_module(name)", "only shows when it runs"),
        ("minigrad.tensor", "from minigrad import nonsense\nimport minigrad.nonsense", "must not import"),
        ("minigrad.newcomer", "", "minigrad.newcomer has no place in ORDER"),
        ("minigrad.tensors", "", "minigrad.tensors has no place in ORDER"),
        ("minigrad.backend.cuda", "from minigrad.backend import Device", "minigrad.backend.cuda"),
        ("minigrad.nn.linear", "def f():\n    from minigrad.nn import Linear", "minigrad.nn.linear"),
        ("minigrad.tensor", "from minigrad.errors import *", "imports *"),
        ("minigrad.tensor", "def f():\n    import torch", "must not import torch"),
        ("minigrad.tensor", "def f():\n    from torch.nn import functional", "must not import torch"),
        ("minigrad.tensor", "def f():\n    import cupy.cuda", "must not import cupy"),
        ("minigrad.tensor", "def f():\n    import matplotlib.pyplot", "must not import matplotlib"),
        ("minigrad.plot", "import matplotlib.pyplot", "before anybody asked"),
        ("minigrad.plot", "try:\n    import rich\nexcept ImportError:\n    pass", "before anybody asked"),
        ("minigrad.backend.cuda", "import cupy", "before anybody asked"),
        ("minigrad.tensor", "def f():\n    import pickle", "runs what it loads"),
        ("minigrad.tensor", "from pickle import loads", "runs what it loads"),
        ("minigrad.tensor", "np.load(path)", "without allow_pickle=False"),
        ("minigrad.tensor", "np.load(path, allow_pickle=True)", "allow_pickle must be False"),
        ("minigrad.tensor", "np.load(path, allow_pickle=flag)", "allow_pickle must be False"),
        ("minigrad.tensor", "print('oh', file=sys.stderr)", "uses stderr"),
        ("minigrad.tensor", "warnings.warn('oh')", "warnings go to stderr"),
        ("minigrad.tensor", "x = 1\n" * 400, "more than 400"),
    ],
)
def test_each_rule_is_noticed_when_broken(module, source, complaint):
    assert any(complaint in found for found in complaints(module, source))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("minigrad.plot", "from minigrad.nn import Linear"),
        ("minigrad.plot", "def show(): import matplotlib.pyplot as plt"),
        ("minigrad.tensor", "np.load(path, allow_pickle=False)"),
        ("minigrad.tensor", "np.add(a, b)"),
        ("minigrad.nn.linear", "from . import functional"),
        ("minigrad.nn.linear", "from .functional import conv2d"),
    ],
)
def test_what_is_allowed_passes(module, source):
    assert complaints(module, source) == []
