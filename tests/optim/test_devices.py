"""The optimizers on every device: the same numbers, and nothing that makes a GPU wait."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from tests import strict

OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "SGD, all options": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "SGD, uphill": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5, maximize=True),
    "Adam": lambda p: optim.Adam(p, lr=0.1, amsgrad=True, weight_decay=0.1),
    "AdamW": lambda p: optim.AdamW(p, lr=0.1),
}


def train(make, device):
    rng = np.random.default_rng(0)
    params = [mg.tensor(rng.normal(size=s), device=device, requires_grad=True) for s in ((3, 4), (4,), ())]
    optimizer = make(params)
    gradients = [[mg.tensor(rng.normal(size=p.shape), device=device) for p in params] for _ in range(5)]
    strict.counts.reset()
    for step in gradients:
        for p, g in zip(params, step, strict=True):
            p.grad = g
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    return params, optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_same_numbers(name, device):
    params, _ = train(OPTIMIZERS[name], device)
    assert device != "strict" or strict.counts.synchronisations == 0
    expected, _ = train(OPTIMIZERS[name], "cpu")
    for p, q in zip(params, expected, strict=True):
        assert p.device.type == device
        np.testing.assert_allclose(p.detach().cpu().numpy(), q.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_state_moves_to_the_device_of_its_parameters(name, device):
    _, optimizer = train(OPTIMIZERS[name], "cpu")
    params, other = train(OPTIMIZERS[name], device)
    other.load_state_dict(optimizer.state_dict())
    for p in params:
        for kept in other.state.get(p, {}).values():
            assert isinstance(kept, int) or mg.backend.device_of(kept).type == device


def test_a_model_moved_too_late():
    strict.install()
    params, optimizer = train(OPTIMIZERS["SGD, all options"], "cpu")
    for p in params:
        p.array = mg.backend.to_device(p.array, "strict")
    with pytest.raises(mg.errors.DeviceError, match="SGD: parameter 0 is on strict:0, its gradient on cpu"):
        optimizer.step()
    for p in params:
        p.grad = p.grad.to("strict")
    with pytest.raises(
        mg.errors.DeviceError, match=r"momentum_buffer is float64 on cpu.*move the model first"
    ):
        optimizer.step()
