"""Weights go from minigrad to PyTorch and back by name, through a safetensors file: the same outputs."""

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import checkpoint, models
from tests.parity.torch_models import build, pictures

pytestmark = pytest.mark.parity

DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
NAMES = pytest.mark.parametrize("name", models.MODELS)


@pytest.fixture
def safetensors(torch: Any) -> Any:
    return pytest.importorskip("safetensors.torch")


def used(net: Any, forward: Any) -> Any:
    """A model whose running statistics and weights are no longer those it started with."""
    for seed in range(3):
        forward(net, seed)
    return net


def outputs_agree(torch: Any, net: Any, twin: Any, dtype: Any, tolerance: float) -> None:
    """In evaluation, then in training, then the running statistics."""
    x, _ = pictures(9, dtype, seed=5)
    for mode in (False, True):
        y = net.train(mode)(mg.Tensor(x)).detach().numpy()
        expected = twin.train(mode)(torch.tensor(x)).detach().numpy()
        np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance * max(1.0, np.abs(expected).max()))
    for key, value in twin.state_dict().items():
        np.testing.assert_allclose(net.state_dict()[key].numpy(), value.numpy(), rtol=0, atol=10 * tolerance)


@DTYPES
@NAMES
def test_from_minigrad_to_torch(torch, safetensors, tmp_path, name, dtype, tolerance):
    mg.manual_seed(1)
    net = models.get(name).make().to(dtype)
    used(net, lambda net, seed: net(mg.Tensor(pictures(16, dtype, seed)[0])))
    checkpoint.save(net, tmp_path / "weights.safetensors")
    state = safetensors.load_file(tmp_path / "weights.safetensors")
    assert sorted(state) == sorted(net.state_dict())  # PyTorch's reader sorts by name
    assert {str(v.dtype) for k, v in state.items() if "num_batches" not in k} == {
        f"torch.{np.dtype(dtype).name}"
    }
    twin = build(torch, name).to(getattr(torch, np.dtype(dtype).name))
    twin.load_state_dict(state, strict=True)
    outputs_agree(torch, net, twin, dtype, tolerance)


@DTYPES
@NAMES
def test_from_torch_to_minigrad(torch, safetensors, tmp_path, name, dtype, tolerance):
    torch.manual_seed(1)
    twin = build(torch, name).to(getattr(torch, np.dtype(dtype).name))
    used(twin, lambda net, seed: net(torch.tensor(pictures(16, dtype, seed)[0])))
    safetensors.save_file(twin.state_dict(), tmp_path / "weights.safetensors")
    net = models.get(name).make().to(dtype)
    result = net.load_state_dict(checkpoint.load(tmp_path / "weights.safetensors"))
    assert (result.missing_keys, result.unexpected_keys) == ([], [])
    outputs_agree(torch, net, twin, dtype, tolerance)


@NAMES
def test_names_and_shapes_are_the_same_in_the_same_order(torch, name):
    ours = {k: v.shape for k, v in models.get(name).make().state_dict().items()}
    theirs = {k: tuple(v.shape) for k, v in build(torch, name).state_dict().items()}
    assert list(ours.items()) == list(theirs.items())


def test_there_and_back_again_changes_no_bit(torch, safetensors, tmp_path):
    net = models.get("lenet_bn").make()
    checkpoint.save(net, tmp_path / "a.safetensors")
    safetensors.save_file(safetensors.load_file(tmp_path / "a.safetensors"), tmp_path / "b.safetensors")
    for name, value in checkpoint.load(tmp_path / "b.safetensors").items():
        np.testing.assert_array_equal(value.numpy(), net.state_dict()[name].numpy())


@pytest.mark.parametrize("name", ["lenet_bn", "lenet_bn_scratch"])
def test_weights_saved_from_batch_last_memory_are_read_row_by_row(torch, safetensors, tmp_path, name):
    """The order in memory is minigrad's own business; a file always holds rows."""
    net = models.get(name).make()
    for p in net.parameters():
        p.data = mg.Tensor(np.asfortranarray(p.detach().numpy()))
    checkpoint.save(net, tmp_path / "weights.safetensors")
    twin = build(torch, name)
    twin.load_state_dict(safetensors.load_file(tmp_path / "weights.safetensors"))
    outputs_agree(torch, net, twin, np.float32, 1e-5)
