"""Finding the files of a data set: a folder that the user names, the cache, the network, in this order.

1. `data_dir`, or the environment variable MINIGRAD_DATA. A folder that is named and does not hold the files
   is an error: going on elsewhere would hide a typing mistake.
2. The cache: ~/.cache/minigrad, or the folder in MINIGRAD_CACHE.
3. Download into the cache (`download.py`).

Wherever a file comes from, its checksum is checked before it is used.

Next: `dataset.py`, which makes data sets of the arrays.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from minigrad.data.catalog import DataFile, Source, read_checked
from minigrad.data.download import DataUnavailableError, download_files
from minigrad.errors import DataError, describe

__all__ = ["cache_dir", "fetch", "find_files"]

StrPath = str | os.PathLike[str]


def fetch(
    source: Source,
    files: Sequence[DataFile],
    data_dir: StrPath | None = None,
    *,
    download: bool = True,
    mirrors: Sequence[str] | None = None,
    say: Callable[[str], None] | None = print,
) -> tuple[list[np.ndarray], Path]:
    """The arrays of `files`, all uint8, and the folder that they came from.

    Args:
        source: `FASHION_MNIST` or `MNIST` of `minigrad.data.catalog`.
        files: the files wanted, for instance `source.split(train=True)`.
        data_dir: folder to look in; default: MINIGRAD_DATA, and if that is not set, cache and network.
        download: whether the network may be used.
        mirrors: addresses to use in place of those of the source.
        say: called with a line before a download begins; None for silence.

    Raises:
        DataUnavailableError: the files are neither in the cache nor to be had over the network.
        DataError: `data_dir` does not hold the files, or a file is damaged or has the wrong checksum.
    """
    named = data_dir or os.environ.get("MINIGRAD_DATA")
    if named:
        paths = _files_in_named_folder(source, files, Path(named).expanduser())
        arrays = [read_checked(path, file, source) for path, file in zip(paths, files, strict=True)]
        return arrays, paths[0].parent
    folder = cache_dir() / source.folders[0]
    return _from_cache(source, files, folder, download, mirrors, say), folder


def cache_dir() -> Path:
    """The folder for downloads: MINIGRAD_CACHE, or ~/.cache/minigrad."""
    return Path(os.environ.get("MINIGRAD_CACHE") or "~/.cache/minigrad").expanduser()


# 1. A folder that the user names ---


def find_files(source: Source, files: Sequence[DataFile], folder: Path) -> list[Path]:
    """The paths of `files` in the first known layout inside `folder` that has them all, else []."""
    for layout in source.folders:
        paths = [_existing(folder / layout, file.name) for file in files]
        if None not in paths:
            return [path for path in paths if path is not None]
    return []


def _existing(folder: Path, name: str) -> Path | None:
    """The file `name` in `folder`, compressed or not; some unpackers write train-images.idx3-ubyte."""
    for candidate in (f"{name}.gz", name, name.replace("-idx", ".idx")):
        if os.path.isfile(folder / candidate):  # unlike Path.is_file, False for a folder one may not enter
            return folder / candidate
    return None


def _files_in_named_folder(source: Source, files: Sequence[DataFile], folder: Path) -> list[Path]:
    paths = find_files(source, files, folder)
    if paths:
        return paths
    title = f"{source.title}: files not found in {folder}"
    if not os.path.isdir(folder):
        title = f"{source.title}: the data folder {folder} does not exist"
    rows = [("expected", f"{file.name}.gz", "or without .gz") for file in files]
    rows += [("in", str(folder / layout), "") for layout in source.folders]
    hint = "correct data_dir or MINIGRAD_DATA, or leave both unset to use the cache and the network"
    raise DataError(describe(title, rows, hint))


# 2. The cache, filled from the network where needed ---


def _from_cache(
    source: Source,
    files: Sequence[DataFile],
    folder: Path,
    download: bool,
    mirrors: Sequence[str] | None,
    say: Callable[[str], None] | None,
) -> list[np.ndarray]:
    arrays: dict[DataFile, np.ndarray] = {}
    damage: DataError | None = None
    for file in files:
        path = _existing(folder, file.name)
        if path is not None:
            try:
                arrays[file] = read_checked(path, file, source)
            except DataError as error:  # fetched again below; if that fails, this is what the user must know
                damage = damage or error
    missing = [file for file in files if file not in arrays]
    if missing and not download:
        hint = f"allow the download, or set MINIGRAD_DATA (or data_dir) to the folder that has {source.title}"
        title = f"{source.title}: not in the cache {folder}, and download is off"
        raise damage or DataUnavailableError(describe(title, (), hint))
    if missing:
        try:
            arrays.update(download_files(source, missing, folder, mirrors=mirrors, say=say))
        except DataUnavailableError as error:
            raise damage or error from error
    return [arrays[file] for file in files]
