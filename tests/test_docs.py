"""docs/ agrees with the package, and plain docstrings become sound reStructuredText."""

import re
import sys
from pathlib import Path

import pytest

from tests.test_architecture import ORDER, SOURCES

DOCS = Path(__file__).resolve().parents[1] / "docs"
sys.path.insert(0, str(DOCS / "_ext"))

from plain_docstrings import to_rst  # noqa: E402


def test_architecture_page_lists_the_same_order():
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    listed = re.findall(r"^  (\S+)", text.split("```text\nminigrad/\n")[1].split("```")[0], re.MULTILINE)
    modules = ["minigrad." + re.sub(r"(\.py|/)$", "", name).replace("/", ".") for name in listed]
    assert modules == [entry for entry in ORDER if entry != "minigrad._version"]


def test_every_line_of_the_order_has_a_reference_or_is_internal():
    internal = {"_version", "dtypes", "engine", "kernels", "operands", "ops", "shapes", "train"}
    internal |= {"tensor_base", "tensor_inplace", "tensor_operators", "tensor_reductions"}  # part of Tensor
    pages = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    documented = re.findall(r"automodule:: (\S+)", pages)
    assert set(ORDER) - {f"minigrad.{name}" for name in internal} == set(documented) & set(ORDER)
    assert set(documented) <= set(SOURCES)


@pytest.mark.parametrize(
    ("docstring", "rst"),
    [
        ("One | two * three_ `four`.", r"One \| two \* three\_ ``four``."),
        (
            "Text:\n\n    y = |x|\n\n    z = 2\nmore",
            "Text:\n\n.. code-block:: text\n\n    y = |x|\n\n    z = 2\n\nmore",
        ),
        ("Text\n    formula", "Text\n\n.. code-block:: text\n\n    formula"),
        ("Text\n>>> 1 | 2\n3\nText*", "Text\n\n>>> 1 | 2\n3\nText*"),
        ("Text\n>>> 1 | 2\n3\n\nText*", "Text\n\n>>> 1 | 2\n3\n\nText\\*"),
        ("Text\n- a*\n  b\n- c", "Text\n\n- a\\*\n  b\n\n- c"),
        ("1. one\n2. two\nmore", "1. one\n\n2. two\n   more"),
        ("Args:\n    x: |a|\n    y: b\n\nText", "Args:\n    x: \\|a\\|\n    y: b\n\nText"),
        ("Args:\n    x: a\n\n    y: b\nReturns:\n    c", "Args:\n    x: a\n\n    y: b\n\nReturns:\n    c"),
    ],
)
def test_docstring_to_rst(docstring, rst):
    assert "\n".join(to_rst(docstring.split("\n"))).rstrip() == rst
