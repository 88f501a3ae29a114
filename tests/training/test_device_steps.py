"""Training and evaluation on a device: the numbers of the CPU, and nothing in a step that waits or copies."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import models, nn, optim
from minigrad.data import ArrayDataset, DataLoader
from minigrad.errors import LabelError, NonFiniteError
from minigrad.nn import functional as F
from minigrad.nn.functional.loss import remember_range
from minigrad.training import evaluate, train_epoch
from tests import strict

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (22, 28, 28), dtype=np.uint8)
LABELS = np.arange(22) % 10

OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "Adam": lambda p: optim.Adam(p, lr=0.01),
}


def lenet(device, compiled=False):
    mg.manual_seed(3)
    model = models.lenet_bn().to(device)
    return mg.compile(model) if compiled else model


def loader(device=None, labels=LABELS, batch_size=8, **options):
    options = {"shuffle": True, "generator": 5, **options}
    return DataLoader(ArrayDataset(IMAGES, labels), batch_size, device=device, **options)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_of_lenet_bn_asks_the_device_for_nothing(name, compiled):
    """Forward, loss, backward and update: the host never waits, and sends nothing but kernels."""
    strict.install()
    model = lenet("strict", compiled)
    optimizer = OPTIMIZERS[name](model.parameters())
    batches = iter(loader("strict"))
    for number, (X, y) in enumerate(batches):
        if number == 1:
            strict.counts.reset()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(X), y)
        loss.backward()
        optimizer.step()
    assert number == 2
    assert (strict.counts.synchronisations, strict.counts.uploads) == (0, 0)
    assert math.isfinite(loss.item())


def test_an_epoch_is_read_once_and_its_order_is_sent_once():
    strict.install()
    model = lenet("strict")
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    batches = loader("strict")
    strict.counts.reset()
    train_epoch(model, batches, optimizer)
    assert (strict.counts.synchronisations, strict.counts.uploads) == (1, 1)
    strict.counts.reset()
    evaluate(model, batches)
    assert (strict.counts.synchronisations, strict.counts.uploads) == (1, 1)


def test_an_epoch_gives_the_figures_of_the_cpu(device):
    """The same batches, since the order is drawn on the host, and the same weights after them."""
    found = {}
    for where in ("cpu", device):
        model = lenet(where)
        data = DataLoader(
            ArrayDataset(IMAGES, LABELS),
            8,
            shuffle=True,
            generator=5,
            device=where if where != "cpu" else None,
        )
        figures = train_epoch(model, data, OPTIMIZERS["SGD"](model.parameters()))
        found[where] = figures, evaluate(model, data), [p.detach().cpu().numpy() for p in model.parameters()]
    (cpu, cpu_acc, weights), (there, there_acc, there_weights) = found["cpu"], found[device]
    assert there.loss == pytest.approx(cpu.loss, rel=1e-5)
    assert (there.accuracy, there.examples) == (cpu.accuracy, cpu.examples)
    assert there_acc == cpu_acc
    for a, b in zip(there_weights, weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


def test_progress_on_a_device_comes_every_fifty_batches():
    strict.install()
    images, labels = np.zeros((230, 2, 2), np.uint8), np.zeros(230, np.int64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).to("strict")
    data = DataLoader(ArrayDataset(images, labels), 2, device="strict")
    seen = []
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    strict.counts.reset()
    train_epoch(model, data, optimizer, on_batch=lambda n, f: seen.append((n, f.examples)))
    assert seen == [(50, 100), (100, 200), (115, 230)]
    assert strict.counts.synchronisations == 3


def test_a_loss_that_is_no_number_names_its_batch_also_on_a_device(device):
    model = nn.Linear(4, 3).to(device)
    steps = [0]

    def loss(outputs, labels):
        steps[0] += 1
        return F.cross_entropy(outputs, labels) * (math.inf if steps[0] == 2 else 1.0)

    data = [(mg.ones(3, 4), mg.tensor([0, 1, 2]))] * 4
    with pytest.raises(NonFiniteError, match=r"the loss is inf in epoch 7, batch 2\n  learning rate  0\.25"):
        train_epoch(model, data, optim.SGD(model.parameters(), lr=0.25), loss, epoch=7)
    with mg.no_grad():
        model.weight.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="evaluate: the model's outputs for batch 1 are not finite"):
        evaluate(model, data)


def test_labels_beyond_the_classes_are_refused_before_they_reach_an_index(device):
    """The data set is fine, the model has fewer classes than it."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 5)).to(device)
    data = loader(device, shuffle=False)
    with pytest.raises(LabelError, match=r"^epoch 1, batch 1: .*label 5 at place 5 .*0 to 4"):
        train_epoch(model, data, optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(LabelError, match=r"^batch 1: .*label 5 at place 5"):
        evaluate(model, data)


def test_a_write_into_labels_makes_the_range_unknown():
    strict.install()
    for X, y in loader("strict"):
        y[1] = -3
        with pytest.raises(LabelError, match="label -3 at place 1"):
            F.cross_entropy(mg.zeros(8, 10, device="strict"), y)
        assert X.shape == (8, 1, 28, 28)
        break


def test_ignored_labels_still_count_for_nothing():
    """A known range may hold the ignored label."""
    scores, labels = mg.randn(4, 3), mg.tensor([0, 2, 1, 2])
    expected = F.cross_entropy(scores, labels, ignore_index=2).item()
    known = remember_range(mg.tensor([0, 2, 1, 2]), 0, 2)
    assert F.cross_entropy(scores, known, ignore_index=2).item() == expected
    assert F.cross_entropy(scores, known).item() == F.cross_entropy(scores, labels).item()


def test_pictures_on_a_device_have_the_order_of_their_shape(device):
    X, _ = next(iter(loader(None if device == "cpu" else device)))
    order = X.array.transpose(1, 2, 3, 0) if device == "cpu" else X.array
    assert order.flags.c_contiguous
