"""state_dict and load_state_dict: strict, every problem at once, nothing changed when something is wrong."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import CheckpointError


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def values(module: nn.Module) -> list[list[float]]:
    return [v.tolist() for v in module.state_dict().values()]


def test_names_in_order_detached_and_sharing_memory():
    module = net()
    state = module.state_dict()
    assert list(state) == [
        *("0.weight", "0.bias", "1.weight", "1.bias"),
        *("1.running_mean", "1.running_var", "1.num_batches_tracked"),
    ]
    assert not any(v.requires_grad for v in state.values())
    assert type(state["0.weight"]) is mg.Tensor
    state["0.bias"].fill_(5)
    assert module[0].bias.tolist() == [5.0, 5.0]


def test_loading_copies_values_and_keeps_objects_dtypes_and_devices():
    source, target = net().double(), net()
    before = [*target.parameters(), *target.buffers()]
    result = target.load_state_dict(source.state_dict())
    assert (result.missing_keys, result.unexpected_keys) == ([], [])
    assert [id(t) for t in (*target.parameters(), *target.buffers())] == [id(t) for t in before]
    for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)
        assert not np.shares_memory(a.numpy(), b.numpy())
    assert target[0].weight.dtype == mg.float32
    assert target[1].num_batches_tracked.dtype == mg.int64
    assert target[0].weight.requires_grad


def test_arrays_are_welcome():
    target = net()
    target.load_state_dict({name: np.zeros(v.shape) for name, v in target.state_dict().items()})
    assert not any(v.any() for v in target.state_dict().values())


def test_tensors_that_require_gradients_are_welcome():
    """The parameters of another model, which are leaves of a graph."""
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    target.load_state_dict(dict(source.named_parameters()))
    assert target.weight.tolist() == source.weight.tolist()


def test_every_problem_is_listed_at_once_and_nothing_changes():
    module = net()
    before = values(module)
    state = {name: v + 1 for name, v in module.state_dict().items()}
    del state["0.bias"], state["1.running_mean"]
    state["head.weight"] = mg.zeros(1)
    state["0.weight"] = mg.zeros(2, 4)
    state["1.bias"] = 3.0
    state["1.weight"] = np.array(["a", "b"])
    with pytest.raises(CheckpointError) as caught:
        module.load_state_dict(state)
    assert str(caught.value).splitlines() == [
        "the weights do not fit Sequential",
        "  missing: 0.bias",
        "  missing: 1.running_mean",
        "  unexpected: head.weight",
        "  shape of 0.weight: model (2, 3), file (2, 4)",
        "  1.weight: expected a tensor or array of numbers, got an array of <U1",
        "  1.bias: expected a tensor or array of numbers, got float",
    ]
    assert values(module) == before


@pytest.mark.parity
def test_torch_tensors_are_named_as_such(torch):
    with pytest.raises(
        CheckpointError, match=r"weight: expected a tensor or array of numbers, got torch\.Tensor"
    ):
        nn.Linear(2, 2).load_state_dict(torch.nn.Linear(2, 2).state_dict())


def test_not_strict_loads_what_fits_and_returns_the_rest():
    module = net()
    result = module.load_state_dict({"0.bias": mg.tensor([1.0, 2.0]), "other": mg.zeros(1)}, strict=False)
    assert module[0].bias.tolist() == [1.0, 2.0]
    assert result.unexpected_keys == ["other"]
    assert result.missing_keys == [name for name in module.state_dict() if name != "0.bias"]


def test_not_strict_still_refuses_other_shapes():
    module = net()
    before = values(module)
    with pytest.raises(CheckpointError, match=r"shape of 0.bias: model \(2,\), file \(1,\)"):
        module.load_state_dict({"0.weight": mg.zeros(2, 3), "0.bias": mg.zeros(1)}, strict=False)
    assert values(module) == before


def test_a_parameter_shared_by_two_names_is_loaded_from_the_last():
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    module[1].weight = module[0].weight
    module.load_state_dict({"0.weight": mg.zeros(2, 2), "1.weight": mg.ones(2, 2)})
    assert module[0].weight.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_loading_is_noticed_by_a_graph_that_needs_the_old_values():
    layer = nn.Linear(2, 2)
    y = layer(mg.ones(1, 2).requires_grad_())
    layer.load_state_dict({"weight": mg.zeros(2, 2), "bias": mg.zeros(2)})
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


def test_buffers_that_do_not_persist_are_neither_saved_nor_asked_for():
    module = nn.Module()
    module.register_buffer("cache", mg.ones(2), persistent=False)
    assert module.state_dict() == {}
    module.load_state_dict({})
    module.cache = mg.zeros(2)  # stays what it was: a buffer that is not saved
    assert module.state_dict() == {}


def test_loss_weights_are_saved_as_in_torch():
    assert list(nn.CrossEntropyLoss(weight=mg.ones(3)).state_dict()) == ["weight"]
    assert list(nn.CrossEntropyLoss().state_dict()) == []
