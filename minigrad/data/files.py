"""Files that are either there whole or not there at all.

A program that is stopped while it writes (Ctrl-C, full disk, lost power) must not leave half a file under
the name that the next program trusts. So everything is first written to a temporary name *in the same
folder*, and then renamed: a rename within one folder is a single step for the operating system.

Next: `idx.py`, which writes and reads the pictures.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

__all__ = ["atomic_path"]


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Hands out a temporary path beside `path`; renames it to `path` if the block ends well, else deletes it.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic_path(folder / "note.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> [file.name for file in folder.iterdir()]
    ['note.txt']
    """
    path = Path(path)
    # The random part keeps two processes that write the same file apart.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # after a rename there is nothing left to delete
