"""Saving and loading: weights for everybody, and the whole state of a training run.

    mg.save(model, "lenet.safetensors")                     # or model.state_dict(), or any dict of tensors
    model.load_state_dict(mg.load("lenet.safetensors"))

    save_training_state("run.safetensors", model=model, optimizer=optimizer, epoch=3)
    epoch = load_training_state("run.safetensors", model=model, optimizer=optimizer)["epoch"]

Files are in the safetensors format (https://github.com/huggingface/safetensors): a JSON header with name,
dtype and shape of each array, then the bytes of the arrays. Other programs read them, for example
`safetensors.torch.load_file` in PyTorch, and reading one runs no code: nothing here is ever unpickled. What
is no array (numbers, strings, lists, dicts) goes into the header's metadata as JSON.

A file is written under a temporary name and then renamed, so an earlier file stays whole until the new one is
there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minigrad import backend
from minigrad._version import __version__
from minigrad.autograd import Variable
from minigrad.data.files import atomic_path
from minigrad.errors import ArgumentError, CheckpointError
from minigrad.tensor import Tensor

__all__ = ["load", "load_training_state", "read_metadata", "save", "save_training_state"]

FilePath = str | os.PathLike[str]

_DTYPES = {  # safetensors' name -> NumPy's; the numbers in a file are little-endian
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}
_KIND, _STRUCTURE, _VERSION = "minigrad_kind", "minigrad_structure", "minigrad_version"
_ORDER = "minigrad_order"
_MAX_HEADER = 100_000_000  # the format's own limit


# 1. What users call -------------------------------------------------------------------------------------


def save(obj: Any, path: FilePath, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to a safetensors file.

    Args:
        obj: a dict of tensors or arrays by name; anything with `state_dict()`, such as a Module; or any
            nesting of dicts, lists and tuples of tensors, arrays, numbers, strings, True, False and None.
        path: the file; its folder has to exist.
        metadata: strings to keep in the file's header.

    Raises:
        CheckpointError: the file cannot be written, or obj holds something that cannot be saved.

    >>> import tempfile, minigrad as mg
    >>> path = Path(tempfile.mkdtemp()) / "w.safetensors"
    >>> save({"w": mg.ones(2)}, path)
    >>> load(path)
    {'w': tensor([1., 1.])}
    """
    obj = obj.state_dict() if hasattr(obj, "state_dict") else obj
    _write(path, obj, dict(metadata or {}), "data")


def load(path: FilePath, device: Any = None) -> Any:
    """Read what `save` wrote, or any safetensors file: a dict of tensors by name.

    What was saved as another nesting comes back as that, arrays in it as arrays. bfloat16 becomes float32.

    Args:
        path: the file.
        device: where the tensors go; the CPU if left out.

    Raises:
        CheckpointError: there is no such file, it is damaged, or it is of another kind.
    """
    return _read(path, device, "data")


def read_metadata(path: FilePath) -> dict[str, str]:
    """The strings in the header of a safetensors file: those given to `save`, and minigrad's version."""
    metadata, _ = _open(path)
    return {k: v for k, v in metadata.items() if k not in (_STRUCTURE, _KIND, _ORDER)}


def save_training_state(path: FilePath, **parts: Any) -> None:
    """Write all that is needed to go on with a training run, bit for bit, as if it had not been interrupted.

    Args:
        path: the file.
        parts: by name, objects with a `state_dict` (model, optimizer, scheduler) and plain values
            (epoch=3, losses=[0.5, 0.4]), nested as you like.

    The state of minigrad's random number generator is kept, too.

    >>> import tempfile, minigrad as mg
    >>> from minigrad import optim
    >>> path = Path(tempfile.mkdtemp()) / "run.safetensors"
    >>> optimizer = optim.SGD([mg.ones(1, requires_grad=True)], lr=0.1)
    >>> save_training_state(path, optimizer=optimizer, epoch=3)
    >>> optimizer.param_groups[0]["lr"] = 0.0
    >>> load_training_state(path, optimizer=optimizer)
    {'epoch': 3}
    >>> optimizer.param_groups[0]["lr"]
    0.1
    """
    objects = {k: v.state_dict() for k, v in parts.items() if hasattr(v, "state_dict")}
    values = {k: v for k, v in parts.items() if k not in objects}
    state = {"objects": objects, "values": values, "random": backend.random.get_state()}
    _write(path, state, {}, "training state")


def load_training_state(path: FilePath, **objects: Any) -> dict[str, Any]:
    """Give each of `objects` its state back, and the random number generator its own.

    Returns:
        The plain values by name; and the states in the file that no object was given for.

    Raises:
        CheckpointError: the file cannot be read, holds no state of one of the objects, or does not fit it.
    """
    state = _read(path, None, "training state")
    try:
        saved, values, random = state["objects"], state["values"], state["random"]
        missing = [name for name in objects if name not in saved]
    except (KeyError, TypeError):
        raise CheckpointError(f"load_training_state: {path} is damaged: parts of it are missing") from None
    if missing:
        raise CheckpointError(
            f"load_training_state: {path} holds no state of {', '.join(missing)}; "
            f"it holds {', '.join(sorted(saved)) or 'none'}"
        )
    for name, obj in objects.items():
        obj.load_state_dict(saved[name])
    try:
        backend.random.set_state(random)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"load_training_state: {path} holds a state of the random number generator "
            f"that NumPy {np.__version__} does not take ({error})"
        ) from None
    return {**{name: part for name, part in saved.items() if name not in objects}, **values}


# 2. Anything nested <-> arrays by name and JSON ---------------------------------------------------------
#
# In the JSON a number, string, bool, None or list stands for itself. An object with one entry stands for
# the rest: {"tensor": name}, {"array": name}, {"tuple": [...]}, {"dict": [[key, value], ...]}.


def _flatten(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """The JSON form of `value`; its arrays are put into `arrays`."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Variable) or backend.is_array(value):
        key = name or "tensor"
        while key in arrays or key == "__metadata__":
            key += "_"  # {"a.b": x, "a": {"b": y}}
        tensor = isinstance(value, Variable)
        arrays[key] = _host(key, value.array if tensor else value)
        return {"tensor" if tensor else "array": key}
    if isinstance(value, (list, tuple)):
        items = [_flatten(v, _join(name, i), arrays) for i, v in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, (str, int, float, bool)):
                raise CheckpointError(
                    f"save: {name or 'the dict'} has the key {key!r}; use strings or numbers"
                )
        return {"dict": [[k, _flatten(v, _join(name, k), arrays)] for k, v in value.items()]}
    raise CheckpointError(
        f"save: cannot save {name or 'this object'}, a {type(value).__name__}; "
        "only tensors, arrays, numbers, strings, lists, tuples and dicts can be saved"
    )


def _join(name: str, key: Any) -> str:
    return f"{name}.{key}" if name else str(key)


def _unflatten(form: Any, arrays: Mapping[str, np.ndarray], device: Any) -> Any:
    """What `_flatten` was given."""
    if isinstance(form, list):
        return [_unflatten(item, arrays, device) for item in form]
    if not isinstance(form, dict):
        return form
    ((kind, content),) = form.items()
    if kind == "tensor":
        return Tensor(backend.to_device(arrays[content], device))
    if kind == "array":
        return arrays[content]
    if kind == "tuple":
        return tuple(_unflatten(item, arrays, device) for item in content)
    if kind == "dict":
        return {key: _unflatten(item, arrays, device) for key, item in content}
    raise KeyError(kind)


def _host(name: str, array: Any) -> np.ndarray:
    """On the host, in row-major order, little-endian; the format knows no strides."""
    array = backend.to_numpy(array)
    dtype = array.dtype.newbyteorder("<")
    if dtype.str not in _DTYPES.values():
        raise CheckpointError(
            f"save: {name} has dtype {array.dtype}, which minigrad's tensors do not have; convert it first"
        )
    return np.asarray(array, dtype=dtype, order="C")


# 3. Writing ---------------------------------------------------------------------------------------------


def _write(path: FilePath, obj: Any, metadata: dict[str, str], kind: str) -> None:
    import safetensors.numpy

    path = Path(path)
    for key, text in metadata.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise ArgumentError(f"save: metadata must be strings, got {key!r}: {text!r}; use json.dumps")
        if key.startswith("minigrad_"):
            raise ArgumentError(f"save: metadata may not use the name {key!r}, which belongs to minigrad")
    arrays: dict[str, np.ndarray] = {}
    structure = _flatten(obj, "", arrays)
    # safetensors sorts the tensors by dtype and name; the order they came in is the order of assignment
    metadata = {_VERSION: __version__, _ORDER: json.dumps(list(arrays)), **metadata}
    plain = isinstance(obj, Mapping) and list(obj) == list(arrays)  # tensors by name, nothing else
    if not plain:
        metadata[_STRUCTURE] = json.dumps(structure)
    if kind != "data":
        metadata[_KIND] = kind
    content = _same_bytes(safetensors.numpy.save(arrays, metadata))
    try:
        with atomic_path(path) as temporary, open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # on the disk before it takes the name
    except OSError as error:
        if not path.parent.is_dir():
            raise CheckpointError(f"save: there is no folder {path.parent}; make it first") from None
        raise CheckpointError(f"save: cannot write {path}: {error.strerror or error}") from None


def _same_bytes(content: bytes) -> bytes:
    """The file with its metadata sorted: safetensors writes them in random order, and the same run shall give
    the same bytes. A file is the header's length (8 bytes), the header (JSON, padded with spaces), the data."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


# 4. Reading ---------------------------------------------------------------------------------------------


def _read(path: FilePath, device: Any, kind: str) -> Any:
    """What was saved, if it is of the kind that is wanted."""
    metadata, arrays = _open(path)
    found = metadata.get(_KIND, "data")
    if found != kind:
        other = "load_training_state" if found == "training state" else "load"
        raise CheckpointError(
            f"{path} holds {'the state of a training run' if other != 'load' else 'plain tensors'}; "
            f"read it with {other}"
        )
    if _STRUCTURE not in metadata:
        return {name: Tensor(backend.to_device(array, device)) for name, array in arrays.items()}
    try:
        return _unflatten(json.loads(metadata[_STRUCTURE]), arrays, device)
    except (KeyError, TypeError, ValueError, RecursionError):
        raise CheckpointError(f"{path} is damaged: its metadata do not fit its tensors") from None


def _open(path: FilePath) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata and arrays of a safetensors file."""
    import safetensors

    path = Path(path)
    try:
        with open(path, "rb") as file:
            start = file.read(9)
            size = os.fstat(file.fileno()).st_size
            header = _check_start(path, start, size)
            content = start + file.read()
    except FileNotFoundError:
        missing = "file" if path.parent.is_dir() else "folder"
        raise CheckpointError(
            f"load: there is no {missing} {path if missing == 'file' else path.parent}"
        ) from None
    except OSError as error:
        raise CheckpointError(f"load: cannot read {path}: {error.strerror or error}") from None
    try:
        listed = safetensors.deserialize(content)
        described = json.loads(content[8 : 8 + header])
    except (safetensors.SafetensorError, ValueError) as error:
        raise CheckpointError(f"load: {path} is cut short or damaged ({error})") from None
    metadata = described.get("__metadata__", {})
    place = _places(metadata, described)
    listed.sort(key=lambda item: place[item[0]])
    return metadata, {name: _array(path, name, entry) for name, entry in listed}


def _places(metadata: Mapping[str, str], described: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """What to sort the tensors by: the order they were saved in, or for other programs' files that of the bytes."""
    try:
        saved = {name: k for k, name in enumerate(json.loads(metadata.get(_ORDER, "[]")))}
    except (TypeError, ValueError):
        saved = {}
    return {
        name: (saved.get(name, len(saved)), entry["data_offsets"][0])
        for name, entry in described.items()
        if name != "__metadata__"
    }


def _check_start(path: Path, start: bytes, size: int) -> int:
    """Length of the header, or an error that says what the file is instead."""
    header = int.from_bytes(start[:8], "little")
    if start[8:] == b"{":
        if header > _MAX_HEADER or 8 + header > size:
            raise CheckpointError(
                f"load: {path} is cut short or damaged: its header claims {header} bytes, the file has {size}"
            )
        return header
    if start.startswith(b"PK\x03\x04") and path.suffix == ".npz":
        raise CheckpointError(f"load: {path} is a NumPy archive; save its arrays with minigrad.save first")
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        raise CheckpointError(
            f"load: {path} is a pickle or PyTorch file, which can run any code when it is read; convert it "
            "once, in PyTorch: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
        )
    raise CheckpointError(f"load: {path} is not a safetensors file ({size} bytes)")


def _array(path: Path, name: str, entry: Mapping[str, Any]) -> np.ndarray:
    """One array of the file, in memory of its own."""
    dtype, shape, data = entry["dtype"], entry["shape"], entry["data"]
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    if dtype not in _DTYPES:
        raise CheckpointError(
            f"load: {name} in {path} has dtype {dtype}, which minigrad does not have; "
            f"there are {', '.join(_DTYPES)} and BF16"
        )
    array = np.frombuffer(data, _DTYPES[dtype]).reshape(shape)
    return array.astype(array.dtype.newbyteorder("="))
