"""The notebooks run from top to bottom, on little data, and stay in step with their sources.

`notebooks/NAME.py` is what people edit; `notebooks/NAME.ipynb` is what they read, with outputs
(`make notebooks` makes it). The cell tagged "parameters" says how much is trained; here other values are
put in its place.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext", reason="needs the extra 'notebooks'")
nbclient = pytest.importorskip("nbclient", reason="needs the extra 'notebooks'")
pytest.importorskip("ipykernel", reason="needs the extra 'notebooks'")

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
SMALL = {
    "batch_norm": {"batch_size": 64, "num_epochs": 2, "lr": 1.0, "train_size": 512, "seed": 0},
}
SOURCES = sorted(FOLDER.glob("*.py"))


def sources(notebook):
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def text_of(cell) -> str:
    """Everything that a code cell printed or returned."""
    parts = []
    for output in cell.outputs:
        parts.append(output.get("text", "") or output.get("data", {}).get("text/plain", ""))
    return "\n".join(parts)


def test_every_notebook_is_listed_here():
    assert SOURCES, "no notebooks found"
    assert {path.stem for path in SOURCES} == set(SMALL)
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(SMALL)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_notebook_equals_its_source(name):
    source = jupytext.read(FOLDER / f"{name}.py")
    notebook = jupytext.read(FOLDER / f"{name}.ipynb")
    assert sources(notebook) == sources(source), "run `make notebooks`"


@pytest.mark.parametrize("name", sorted(SMALL))
def test_notebook_was_executed_without_errors(name):
    notebook = jupytext.read(FOLDER / f"{name}.ipynb")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert "error" not in kinds
    streams = {o.name for cell in code for o in cell.outputs if o.output_type == "stream"}
    assert "stderr" not in streams


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SMALL))
# the notebook client's own event loop and sockets warn; the notebook itself runs in another process
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::RuntimeWarning")
def test_notebook_runs(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]))
    notebook = jupytext.read(FOLDER / f"{name}.py")
    (place,) = [i for i, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", [])]
    given = notebook.cells[place].source
    for key, value in SMALL[name].items():
        assert f"{key} = " in given, f"the parameters cell does not set {key}"
        notebook.cells[place].source += f"\n{key} = {value!r}"
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    printed = "\n".join(text_of(cell) for cell in notebook.cells if cell.cell_type == "code")
    if name == "batch_norm":
        assert "gradients agree: True" in printed
        assert printed.count("examples/sec on") == 2
        assert "test accuracy with population statistics" in printed
