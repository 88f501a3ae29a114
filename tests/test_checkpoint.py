"""Saving and loading: what comes back, what other programs read, and what is refused without harm."""

import contextlib
import itertools
import json
import os
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import checkpoint, nn, optim
from minigrad.checkpoint import load, load_training_state, read_metadata, save, save_training_state
from minigrad.errors import ArgumentError, CheckpointError
from tests import strict

DTYPES = ["float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool"]


def file_of(header, body=b"", length=None):
    """The bytes of a safetensors file, good or bad."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def same(a, b):
    """Equal in kind, dtype, shape and bits."""
    if isinstance(a, (mg.Tensor, np.ndarray)):
        assert type(a) is type(b)
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    elif isinstance(a, (list, tuple)):
        assert type(a) is type(b)
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    else:
        assert type(a) is type(b)
        assert repr(a) == repr(b)  # so that nan equals nan, and 0.0 does not equal -0.0


# 1. Weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 4), (5,), (), (2, 0, 3)])
def test_every_dtype_and_shape(tmp_path, dtype, shape):
    values = mg.Tensor(np.random.default_rng(0).integers(0, 2, shape).astype(dtype))
    save({"x": values}, tmp_path / "w.safetensors")
    loaded = load(tmp_path / "w.safetensors")
    same(loaded, {"x": values})
    loaded["x"].zero_() if values.numel() else None  # the memory is ours to write


def test_any_memory_order(tmp_path):
    """The format knows no strides: what is turned, stretched or has gaps must not be written as it lies."""
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    views = {
        "turned": x.T,
        "batch last": np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0),
        "gaps": x[:, ::2],
        "backwards": x[::-1],
        "stretched": np.broadcast_to(x[0, 0, 0], (3, 2)),
        "big-endian": x.astype(">f4"),
    }
    save({name: mg.Tensor(view) for name, view in views.items()}, tmp_path / "w.safetensors")
    loaded = load(tmp_path / "w.safetensors")
    for name, view in views.items():
        np.testing.assert_array_equal(loaded[name].numpy(), view, err_msg=name)
        assert loaded[name].dtype == np.float32
        assert loaded[name].numpy().dtype.isnative


def test_a_module(tmp_path):
    path = tmp_path / "w.safetensors"
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.BatchNorm(4, num_dims=2))
    net(mg.randn(8, 3))  # gives the running statistics something to remember
    save(net, path)
    loaded = load(path)
    state = net.state_dict()
    assert sorted(loaded) == sorted(state)
    same({k: loaded[k] for k in state}, {k: v.detach() for k, v in state.items()})
    assert loaded["1.num_batches_tracked"].item() == 1
    assert loaded["1.num_batches_tracked"].dtype == mg.int64
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.BatchNorm(4, num_dims=2))
    other.load_state_dict(loaded)
    x = mg.randn(5, 3)
    assert other.eval()(x).tolist() == net.eval()(x).tolist()


def test_arrays_by_name_come_back_as_tensors(tmp_path):
    save({"a": np.ones(2), "b": mg.ones(2)}, tmp_path / "w.safetensors")
    loaded = load(tmp_path / "w.safetensors")
    assert [type(v) for v in loaded.values()] == [mg.Tensor, mg.Tensor]


def test_shared_weights(tmp_path):
    w = mg.ones(2)
    save({"encoder": w, "decoder": w}, tmp_path / "w.safetensors")
    assert {k: v.tolist() for k, v in load(tmp_path / "w.safetensors").items()} == {
        "encoder": [1, 1],
        "decoder": [1, 1],
    }


def test_devices(tmp_path):
    strict.install()
    path = tmp_path / "w.safetensors"
    save({"x": mg.ones(2, device="strict")}, path)
    assert load(path)["x"].device == "cpu"
    there = load(path, device="strict")["x"]
    assert there.device.type == "strict"
    assert there.tolist() == [1.0, 1.0]


def test_metadata(tmp_path):
    path = tmp_path / "w.safetensors"
    save({"x": mg.ones(2)}, path, metadata={"dataset": "Mode-Bilder, größer"})
    assert read_metadata(path) == {"minigrad_version": mg.__version__, "dataset": "Mode-Bilder, größer"}
    for bad, message in [
        ({"epoch": 3}, "metadata must be strings, got 'epoch': 3; use json.dumps"),
        ({"minigrad_version": "7"}, "may not use the name 'minigrad_version'"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            save({"x": mg.ones(2)}, path, metadata=bad)


def test_the_format_by_hand(tmp_path):
    """Read a file without the safetensors package, and write one."""
    path = tmp_path / "w.safetensors"
    save({"x": mg.tensor([1.0, 2.0])}, path)
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert header["x"] == {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    assert np.frombuffer(content[8 + length :], "<f4").tolist() == [1.0, 2.0]

    path.write_bytes(file_of({"y": {"dtype": "I16", "shape": [2], "data_offsets": [0, 4]}}, b"\1\0\xff\xff"))
    assert load(path)["y"].tolist() == [1, -1]
    assert read_metadata(path) == {}


def test_bfloat16_becomes_float32(tmp_path):
    numbers = [1.0, -2.5, 0.0, float("inf"), 3.140625]
    upper_halves = b"".join(struct.pack("<f", x)[2:] for x in numbers)
    header = {"x": {"dtype": "BF16", "shape": [5], "data_offsets": [0, 10]}}
    (tmp_path / "w.safetensors").write_bytes(file_of(header, upper_halves))
    loaded = load(tmp_path / "w.safetensors")["x"]
    assert loaded.dtype == mg.float32
    assert loaded.tolist() == numbers


def test_weights_for_pytorch_and_back(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2 * 6 * 6, 3))
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Flatten(), torch.nn.Linear(2 * 6 * 6, 3)
    )
    x = np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32)
    net(mg.tensor(x))
    save(net, tmp_path / "mine.safetensors")
    theirs.load_state_dict(load_file(tmp_path / "mine.safetensors"))
    theirs(torch.tensor(x))
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    net.load_state_dict(load(tmp_path / "theirs.safetensors"))
    for name, value in theirs.state_dict().items():
        np.testing.assert_array_equal(net.state_dict()[name].numpy(), value.numpy(), err_msg=name)
    expected = theirs.eval()(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(net.eval()(mg.tensor(x)).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


# 2. Anything nested --------------------------------------------------------------------------------------

NESTED = {
    "nothing": None,
    "yes": True,
    "whole": 2**127 + 1,  # a state of NumPy's generator is that large
    "numbers": [0.1, -0.0, 1e300, float("inf"), float("nan")],
    "text": "größer",
    "pair": (1, (2.0, [])),
    "empty": {},
    3: {"0": "text", 0: "number", 0.5: "half"},
    "array": np.arange(3),
    "tensors": [mg.ones(2), {"deep": mg.tensor(3)}],
}


@pytest.mark.parametrize(
    "value", [NESTED, [], {}, (mg.ones(1),), mg.ones(2, 2), np.zeros(3), None, 5, "text"]
)
def test_nested(tmp_path, value):
    save(value, tmp_path / "x.safetensors")
    same(load(tmp_path / "x.safetensors"), value)


def test_names_that_collide(tmp_path):
    value = {"a.b": mg.ones(1), "a": {"b": mg.zeros(1)}, "": mg.ones(2), "__metadata__": mg.zeros(2)}
    save(value, tmp_path / "x.safetensors")
    same(load(tmp_path / "x.safetensors"), value)


def test_numpy_scalars_become_numbers(tmp_path):
    save({"loss": np.float32(0.1), "n": np.int64(3)}, tmp_path / "x.safetensors")
    same(load(tmp_path / "x.safetensors"), {"loss": float(np.float32(0.1)), "n": 3})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {"f": print}}, "cannot save a.f, a builtin_function_or_method; only tensors"),
        (object(), "cannot save this object, a object"),
        ([1, {2, 3}], "cannot save 1, a set"),
        ({"a": {None: 1}}, "a has the key None; use strings or numbers"),
        ({"x": np.zeros(2, np.uint16)}, "x has dtype uint16, which minigrad's tensors do not have"),
        ({"x": np.array(["a"])}, "x has dtype <U1"),
        ({"x": np.zeros(2, complex)}, "x has dtype complex128"),
    ],
)
def test_what_cannot_be_saved(tmp_path, value, message):
    with pytest.raises(CheckpointError, match=message):
        save(value, tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


# 3. A training run ---------------------------------------------------------------------------------------


def make_run(name):
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 2))
    optimizers = {
        "SGD": lambda: optim.SGD(net.parameters(), lr=0.1, momentum=0.9),
        "Adam": lambda: optim.Adam(net.parameters(), lr=0.01, amsgrad=True),
    }
    optimizer = optimizers[name]()
    return net, optimizer, optim.lr_scheduler.CosineAnnealingLR(optimizer, 7)


def train(net, optimizer, scheduler, epochs):
    """Data, dropout masks and all from minigrad's generator. Returns every loss."""
    losses = []
    for _ in range(epochs):
        for _ in range(3):
            x, y = mg.randn(8, 4), mg.randint(0, 2, (8,))
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        scheduler.step()
    return losses


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_resuming_gives_the_same_bits(tmp_path, name):
    path = tmp_path / "run.safetensors"
    mg.manual_seed(1)
    net, optimizer, scheduler = make_run(name)
    losses = train(net, optimizer, scheduler, 3)
    save_training_state(path, model=net, optimizer=optimizer, scheduler=scheduler, epoch=3, losses=losses)
    losses += train(net, optimizer, scheduler, 3)

    mg.manual_seed(2)
    again = make_run(name)
    state = load_training_state(path, model=again[0], optimizer=again[1], scheduler=again[2])
    assert state == {"epoch": 3, "losses": losses[:9]}
    assert state["losses"] + train(*again, 3) == losses
    same(again[0].state_dict(), net.state_dict())


def test_states_nobody_asked_for_are_returned(tmp_path):
    path = tmp_path / "run.safetensors"
    net, optimizer, _ = make_run("SGD")
    save_training_state(path, model=net, optimizer=optimizer, order=np.arange(3), seen={"a": (1, None)})
    state = load_training_state(path, optimizer=optimizer)
    assert sorted(state) == ["model", "order", "seen"]
    same(state["model"], net.state_dict())
    same(state["order"], np.arange(3))
    assert state["seen"] == {"a": (1, None)}


def test_the_wrong_one_of_two_files(tmp_path):
    weights, run = tmp_path / "model.safetensors", tmp_path / "run.safetensors"
    net, optimizer, scheduler = make_run("SGD")
    save(net, weights)
    save_training_state(run, model=net, optimizer=optimizer)
    with pytest.raises(
        CheckpointError, match="holds the state of a training run; read it with load_training"
    ):
        load(run)
    with pytest.raises(CheckpointError, match="holds plain tensors; read it with load"):
        load_training_state(weights, model=net)
    with pytest.raises(CheckpointError, match="holds no state of scheduler; it holds model, optimizer"):
        load_training_state(run, model=net, scheduler=scheduler)
    with pytest.raises(CheckpointError, match="the weights do not fit Linear"):
        load_training_state(run, model=nn.Linear(2, 2))
    assert read_metadata(run) == {"minigrad_version": mg.__version__}


# 4. Files that are not there, not whole or not what they should be ----------------------------------------

GOOD = file_of({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a safetensors file .0 bytes."),
        (b"\0" * 100, "is not a safetensors file .100 bytes."),
        (b"hello, world", "is not a safetensors file"),
        (GOOD[:4], "is not a safetensors file"),
        (GOOD[:30], "is cut short or damaged: its header claims 61 bytes, the file has 30"),
        (GOOD[:-1], "is cut short or damaged"),
        (GOOD + b"\0", "is cut short or damaged"),
        (
            file_of(b"{}", length=2**63),
            "is cut short or damaged: its header claims 9223372036854775808 bytes",
        ),
        (file_of(b"{not json"), "is cut short or damaged"),
        (file_of(b"{\xff\xfe}"), "is cut short or damaged"),
        (
            file_of({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}, bytes(8)),
            "is cut short or damaged",
        ),
        (
            file_of({"x": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, bytes(12)),
            "is cut short or damaged",
        ),
        (
            file_of({"x": {"dtype": "U16", "shape": [1], "data_offsets": [0, 2]}}, bytes(2)),
            "x in .* has dtype U16, which minigrad does not have; there are F64, .* and BF16",
        ),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + bytes(50), "is a pickle or PyTorch file"),
        (b"\x80\x04\x95" + bytes(50), "is a pickle or PyTorch file"),
        (
            b"PK\x03\x04" + bytes(50),
            r"run any code.*safetensors.torch.save_file\(model.state_dict\(\), 'model",
        ),
    ],
    ids=itertools.count(),
)
def test_bad_files(tmp_path, content, message):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    for read in (load, load_training_state, read_metadata):
        with pytest.raises(CheckpointError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value)


@given(edits=st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=300, derandomize=True, database=None)
def test_any_damage_is_a_checkpoint_error(edits):
    """Bytes changed at random: what comes is either data or the one error, never another."""
    value = {"a": mg.ones(2), "b": [(1, np.zeros(3)), {"c": "text"}]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        save(value, path)
        content = bytearray(path.read_bytes())
        for place, byte in edits:
            content[place % len(content)] = byte
        path.write_bytes(content)
        with contextlib.suppress(CheckpointError):
            assert load(path) is not None


def test_a_file_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    for name, options in (("new.pt", {}), ("old.pth", {"_use_new_zipfile_serialization": False})):
        torch.save({"w": torch.ones(2)}, tmp_path / name, **options)
        with pytest.raises(
            CheckpointError, match=r"is a pickle or PyTorch file.*safetensors.torch.save_file"
        ):
            load(tmp_path / name)


def test_an_archive_of_numpy(tmp_path):
    np.savez(tmp_path / "w.npz", x=np.ones(2))
    assert zipfile.is_zipfile(tmp_path / "w.npz")
    with pytest.raises(
        CheckpointError, match=r"is a NumPy archive; save its arrays with minigrad.save first"
    ):
        load(tmp_path / "w.npz")


STRUCTURES = {
    "no json": "{",
    "a tensor that is missing": '{"tensor": "y"}',
    "another kind": '{"code": "x"}',
    "two kinds": '{"tensor": "x", "array": "x"}',
    "no pairs": '{"dict": [["a"]]}',
    "a list as a key": '{"dict": [[[], 1]]}',
    "too deep": "[" * 100_000 + "]" * 100_000,
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_damaged_structures(tmp_path, name):
    header = {
        "__metadata__": {"minigrad_structure": STRUCTURES[name]},
        "x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    }
    (tmp_path / "x.safetensors").write_bytes(file_of(header, bytes(8)))
    with pytest.raises(CheckpointError, match="is damaged: its metadata do not fit its tensors"):
        load(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (5, "parts of it are missing"),
        ({"objects": {}}, "parts of it are missing"),
        ({"objects": {}, "values": {}, "random": {"bit_generator": "Dice"}}, "does not take"),
        ({"objects": {}, "values": {}, "random": 5}, "does not take"),
    ],
)
def test_damaged_training_states(tmp_path, state, message):
    checkpoint._write(tmp_path / "run.safetensors", state, {}, "training state")
    with pytest.raises(CheckpointError, match=message):
        load_training_state(tmp_path / "run.safetensors")


def test_places_that_cannot_be_read(tmp_path):
    with pytest.raises(CheckpointError, match=f"there is no file {tmp_path}/w.safetensors"):
        load(tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=f"there is no folder {tmp_path}/deep"):
        load(str(tmp_path / "deep" / "w.safetensors"))
    with pytest.raises(CheckpointError, match=f"cannot read {tmp_path}: Is a directory"):
        load(tmp_path)


def test_places_that_cannot_be_written(tmp_path):
    w = {"x": mg.ones(1)}
    with pytest.raises(CheckpointError, match=f"there is no folder {tmp_path}/deep; make it first"):
        save(w, tmp_path / "deep" / "w.safetensors")
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="there is no folder"):
        save(w, tmp_path / "file" / "w.safetensors")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match=f"cannot write {tmp_path}/folder: Is a directory"):
        save(w, tmp_path / "folder")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(CheckpointError, match=r"cannot write .*: Permission denied"):
            save({"x": mg.ones(1)}, tmp_path / "w.safetensors")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_the_earlier_file_survives(tmp_path, monkeypatch, failing, error):
    """A full disk or Ctrl-C at the worst moment: the old file is whole, nothing is left behind."""
    path = tmp_path / "w.safetensors"
    save({"x": mg.ones(2)}, path)
    before = path.read_bytes()

    def fail(*args):
        raise error

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises((CheckpointError, KeyboardInterrupt), match=r"No space left|^$"):
        save({"x": mg.zeros(1000)}, path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_a_new_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "w.safetensors"
    save({"x": mg.ones(2)}, path)
    save({"y": mg.zeros(1)}, str(path))
    assert list(load(path)) == ["y"]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    """Temporary files of Python's tempfile are unreadable for others; weights should not be."""
    save({"x": mg.ones(1)}, tmp_path / "w.safetensors")
    Path(tmp_path / "ordinary").write_text("")
    assert (tmp_path / "w.safetensors").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_tensors_come_back_in_the_order_they_were_saved_in(tmp_path):
    names = [f"{i}.{part}" for i in (10, 2, 1) for part in ("weight", "bias", "num_batches_tracked")]
    saved = {name: mg.tensor(i, dtype=mg.int64 if "num" in name else None) for i, name in enumerate(names)}
    mg.save(saved, tmp_path / "a.safetensors")
    assert list(mg.load(tmp_path / "a.safetensors")) == names


def test_a_file_of_another_program_comes_in_the_order_of_its_bytes(tmp_path):
    import safetensors.numpy

    arrays = {name: np.zeros(3, np.float32) for name in "hgfedcba"}
    safetensors.numpy.save_file(arrays, tmp_path / "b.safetensors")
    assert list(mg.load(tmp_path / "b.safetensors")) == sorted(arrays)


def test_the_same_tensors_give_the_same_bytes(tmp_path):
    contents = set()
    for k in range(8):
        metadata = {"a": "1", "b": "ü", "c": "3"}
        mg.save({"y": mg.ones(3), "x": mg.zeros(2, 2)}, tmp_path / f"{k}.safetensors", metadata=metadata)
        contents.add((tmp_path / f"{k}.safetensors").read_bytes())
    assert len(contents) == 1
