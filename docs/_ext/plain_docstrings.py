"""Docstrings of minigrad are plain text with sections; this turns them into reStructuredText for Sphinx.

What a reader of the source sees is what counts, so a docstring may say |x - y| or x * y without escapes, and
sets off a formula by indenting it. Here

* an indented block becomes a literal block,
* `code` in single backticks becomes a literal,
* the characters that reStructuredText would take for markup are escaped,
* a doctest or a list is set off by an empty line, if it is not already,
* an `Attributes:` section becomes a list, and the bare names of the same attributes are left out.

The other sections, such as `Args:`, are left to sphinx.ext.napoleon, which runs afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

SECTION = re.compile(r"(Args|Attributes|Example|Examples|Note|Raises|Returns|Warning|Yields):$")
ITEM = re.compile(r"([-*]|\d+\.) ")
CODE = re.compile(r"(`+)(.+?)\1")


def escaped(text: str) -> str:
    """`text` with code marked as such and everything else free of markup.

    >>> escaped("`x` is |a| * b_")
    '``x`` is \\\\|a\\\\| \\\\* b\\\\_'
    """
    parts, end = [], 0
    for match in CODE.finditer(text):
        parts += [re.sub(r"([\\*|_`])", r"\\\1", text[end : match.start()]), f"``{match[2]}``"]
        end = match.end()
    parts.append(re.sub(r"([\\*|_`])", r"\\\1", text[end:]))
    return "".join(parts)


def blocks(lines: list[str]) -> Iterator[list[str]]:
    """Lines that stand together: text, an indented block with its empty lines, a doctest, a list item."""
    block: list[str] = []
    for line in lines:
        starts = line.startswith(">>>") or bool(ITEM.match(line)) or bool(SECTION.match(line))
        if block:
            in_doctest = block[0].startswith(">>>")
            in_indented = block[0].startswith(" ")
            in_section = bool(SECTION.match(block[0]))
            indented = line.startswith(" ")
            if in_doctest:
                over = not line
            elif in_section:
                over = bool(line) and not indented
            elif in_indented:
                over = bool(line) and not indented
            elif ITEM.match(block[0]):
                over = not line or (not indented and starts)
            else:
                over = not line or starts or indented
            if over:
                yield block
                block = []
        if line or block:
            block.append(line)
    if block:
        yield block


def to_rst(lines: list[str]) -> list[str]:
    """A docstring, already dedented, as reStructuredText.

    >>> to_rst(["The sum", "", "    y = x * |w|", "", "of `x`."])
    ['The sum', '', '.. code-block:: text', '', '    y = x * |w|', '', 'of ``x``.', '']
    """
    result: list[str] = []
    for block in blocks([line.rstrip() for line in lines]):
        while block and not block[-1]:
            block.pop()
        if block[0].startswith(" "):
            result += [".. code-block:: text", "", *block, ""]
        elif block[0].startswith(">>>"):
            result += [*block, ""]
        elif block[0] == "Attributes:":
            result += attributes(block[1:])
        elif SECTION.match(block[0]):
            result += [block[0], *map(section_line, block[1:]), ""]
        elif match := ITEM.match(block[0]):
            mark, text = match[0], [block[0][match.end() :], *(line.strip() for line in block[1:])]
            result += [mark + escaped(text[0]), *(" " * len(mark) + escaped(line) for line in text[1:]), ""]
        else:
            result += [*map(escaped, block), ""]
    return result


def attributes(lines: list[str]) -> list[str]:
    """The lines below `Attributes:` as a list.

    >>> attributes(["    a, b: one", "        or two", "    c: three"])
    ['Attributes:', '', '* **a, b**: one', '  or two', '* **c**: three', '']
    """
    margin = len(lines[0]) - len(lines[0].lstrip())
    result = ["Attributes:", ""]
    for line in lines:
        name, colon, text = line.strip().partition(":")
        if line[margin : margin + 1].strip() and colon:
            result.append(f"* **{escaped(name)}**:{escaped(text)}")
        else:
            result.append(f"  {escaped(line.strip())}".rstrip())
    return [*result, ""]


def section_line(line: str) -> str:
    """A line of a section; doctests in it stay as they are."""
    return line if line.lstrip().startswith((">>>", "...")) else escaped(line)


def process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = to_rst(lines)


def skip(app: Any, what: str, name: str, obj: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out attributes of classes that have no docstring of their own: their class describes them."""
    described = callable(obj) or isinstance(obj, (classmethod, property, staticmethod))
    return True if what in ("class", "exception") and not described else None


def setup(app: Any) -> dict[str, bool]:
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", process, priority=400)  # napoleon has 500
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True}
