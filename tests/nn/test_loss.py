"""The loss layers pass their arguments on; the losses themselves are in functional/."""

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from tests.nn.support import compare

rng = np.random.default_rng(0)
LABELS = np.array([2, 0, 1, 1])
WEIGHT, COLUMN = rng.random(3), rng.random((4, 1))
TRUTH = rng.random((4, 3))

# (name, options, target)
LOSSES: list[tuple[str, dict[str, Any], np.ndarray]] = [
    ("CrossEntropyLoss", {}, LABELS),
    ("CrossEntropyLoss", {"weight": WEIGHT, "ignore_index": 1}, LABELS),
    ("CrossEntropyLoss", {"label_smoothing": 0.2, "reduction": "none"}, LABELS),
    ("CrossEntropyLoss", {"reduction": "sum"}, TRUTH),
    ("NLLLoss", {}, LABELS),
    ("NLLLoss", {"weight": WEIGHT, "ignore_index": 0, "reduction": "sum"}, LABELS),
    ("MSELoss", {}, TRUTH),
    ("MSELoss", {"reduction": "sum"}, TRUTH),
    ("L1Loss", {}, TRUTH),
    ("L1Loss", {"reduction": "none"}, TRUTH),
    ("SmoothL1Loss", {}, TRUTH),
    ("SmoothL1Loss", {"beta": 0.3, "reduction": "sum"}, TRUTH),
    ("BCEWithLogitsLoss", {}, TRUTH),
    ("BCEWithLogitsLoss", {"weight": COLUMN, "pos_weight": WEIGHT, "reduction": "sum"}, TRUTH),
]


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "options", "target"), LOSSES, ids=lambda v: str(v)[:60] if not isinstance(v, np.ndarray) else ""
)
def test_loss_layer_equals_torch(torch, name, options, target):
    def make(lib: Any, wrap: Any) -> Any:
        loss = getattr(lib, name)(
            **{k: wrap(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        )
        return lambda x: loss(x, wrap(target))

    x = np.random.default_rng(1).standard_normal((4, 3))
    compare(torch, make(nn, mg.Tensor), make(torch.nn, torch.tensor), [x])


def test_every_loss_is_compared():
    assert {name for name, *_ in LOSSES} == {name for name in nn.__all__ if name.endswith("Loss")}


def test_weights_move_with_the_loss(device):
    loss = nn.CrossEntropyLoss(weight=mg.tensor([1.0, 2.0])).to(device)
    value = loss(mg.zeros(2, 2, device=device), mg.tensor([0, 1], device=device))
    assert value.device == device
    assert value.cpu().item() == pytest.approx(np.log(2))
