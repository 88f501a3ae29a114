"""The two loops: against the same steps written out by hand, and their errors."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import ArgumentError, LabelError, NonFiniteError, ShapeError
from minigrad.nn import functional as F
from minigrad.training import EpochRow, LineReport, evaluate, train_epoch
from minigrad.training.loop import count_correct, evaluation_mode


def batches(sizes=(5, 5, 3), features=4, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return [
        (mg.tensor(rng.normal(size=(n, features)).astype(np.float32)), mg.tensor(rng.integers(0, classes, n)))
        for n in sizes
    ]


def small_model(seed=1):
    mg.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Sigmoid(), nn.Linear(6, 3))


def test_an_epoch_is_these_steps():
    loader = batches()
    model, twin = small_model(), small_model()
    figures = train_epoch(model, loader, optim.SGD(model.parameters(), lr=0.5))

    losses, right, examples = 0.0, 0, 0
    for X, y in loader:
        scores = twin(X)
        loss = F.cross_entropy(scores, y)
        twin.zero_grad()
        loss.backward()
        with mg.no_grad():
            for p in twin.parameters():
                p -= 0.5 * p.grad
        losses += loss.item() * len(y)
        right += sum(
            row.index(max(row)) == label for row, label in zip(scores.tolist(), y.tolist(), strict=True)
        )
        examples += len(y)
    assert figures.loss == pytest.approx(losses / examples, rel=1e-6)
    assert figures.accuracy == right / examples
    assert figures.examples == examples == 13
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


def test_the_figures_weigh_examples_not_batches():
    """A last batch of one example counts for one."""
    zero = nn.Linear(1, 2)
    with mg.no_grad():
        for p in zero.parameters():
            p.zero_()
    always = [(mg.zeros(9, 1), mg.zeros(9, dtype=mg.int64)), (mg.zeros(1, 1), mg.ones(1, dtype=mg.int64))]
    figures = train_epoch(zero, always, optim.SGD(zero.parameters(), lr=0.0))
    assert figures.accuracy == 0.9
    assert figures.loss == pytest.approx(math.log(2))


def test_training_mode_and_progress():
    model = small_model().eval()
    seen = []
    train_epoch(
        model,
        batches(),
        optim.SGD(model.parameters(), lr=0.1),
        on_batch=lambda number, figures: seen.append((number, figures.examples, model.training)),
    )
    assert seen == [(1, 5, True), (2, 10, True), (3, 13, True)]
    assert model[1].num_batches_tracked.item() == 3


def test_another_loss():
    model = nn.Linear(4, 3)
    loss = nn.CrossEntropyLoss(reduction="sum")
    data = batches(sizes=(6,))
    expected = loss(model(data[0][0]), data[0][1]).item()
    assert train_epoch(model, data, optim.SGD(model.parameters(), lr=0.0), loss).loss == expected


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_no_number_stops_before_the_step(value):
    model = nn.Linear(4, 3)
    before = [p.detach().numpy().copy() for p in model.parameters()]
    data = batches()
    steps = [0]

    def loss(outputs, labels):
        steps[0] += 1
        return F.cross_entropy(outputs, labels) * (float(value) if steps[0] == 2 else 0.0)

    message = (
        rf"^training diverged: the loss is {value} in epoch 3, batch 2\n"
        r"  learning rate  0\.25\n"
        r"  hint: use a lower"
    )
    with pytest.raises(NonFiniteError, match=message):
        train_epoch(model, data, optim.SGD(model.parameters(), lr=0.25), loss, epoch=3)
    for p, old in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), old)


def test_a_label_out_of_range_names_the_batch():
    model = nn.Linear(4, 3)
    data = batches()
    data[1][1][2] = 7
    with pytest.raises(LabelError, match=r"^epoch 2, batch 2: .*label 7 .*0 to 2"):
        train_epoch(model, data, optim.SGD(model.parameters(), lr=0.1), epoch=2)
    with pytest.raises(LabelError, match=r"^batch 2: .*label 7 .*0 to 2"):
        evaluate(model, data)


def test_empty_loaders():
    model = nn.Linear(4, 3)
    with pytest.raises(ArgumentError, match="train_epoch: the loader gave no examples"):
        train_epoch(model, [], optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(ArgumentError, match="evaluate: the loader gave no examples"):
        evaluate(model, [])


def test_evaluate_uses_the_moving_averages_and_changes_nothing():
    model = small_model()
    model[3].eval()  # a mode of its own must survive
    X, y = batches(sizes=(12,))[0]
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    expected = 0
    with evaluation_mode(model), mg.no_grad():
        for row, label in zip(model(X).tolist(), y.tolist(), strict=True):
            expected += row.index(max(row)) == label
    assert evaluate(model, [(X[:7], y[:7]), (X[7:], y[7:])]) == expected / 12
    assert [m.training for m in model] == [True, True, True, False]
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])
    assert not any(p.grad for p in model.parameters())


def test_evaluate_refuses_outputs_that_are_no_numbers():
    model = nn.Linear(1, 2)
    with mg.no_grad():
        model.weight.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="outputs for batch 1 are not finite"):
        evaluate(model, [(mg.ones(2, 1), mg.tensor([0, 1]))])
    with pytest.raises(ShapeError, match=r"must give \(N, classes\), got shape \(2, 1, 2\)"):
        evaluate(nn.Identity(), [(mg.ones(2, 1, 2), mg.tensor([0, 1]))])


def test_the_first_of_equal_outputs_counts():
    assert count_correct(mg.zeros(3, 4), mg.tensor([0, 1, 0])) == 2


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        (mg.zeros(3, 1), mg.zeros(3, 1)),  # regression, or BCE
        (mg.zeros(3, 1), mg.zeros(3, 1, dtype=mg.int64)),
        (mg.zeros(3, 2), mg.zeros(3)),
        (mg.zeros(3), mg.zeros(3, dtype=mg.int64)),
        (mg.zeros(3, 2, 2), mg.zeros(3, dtype=mg.int64)),
        (mg.zeros(3, 2), mg.zeros(1, dtype=mg.int64)),
    ],
)
def test_where_there_are_no_classes_nothing_is_counted(outputs, labels):
    assert math.isnan(count_correct(outputs, labels))


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.BCEWithLogitsLoss()])
def test_the_accuracy_of_a_regression_is_nan(loss, capsys):
    model = nn.Linear(4, 1)
    data = [(X, (y > 0).astype(mg.float32).reshape(-1, 1)) for X, y in batches()]
    figures = train_epoch(model, data, optim.SGD(model.parameters(), lr=0.1), loss)
    assert math.isfinite(figures.loss)
    assert math.isnan(figures.accuracy)
    row = EpochRow(1, figures.loss, figures.accuracy, math.nan, 0.1, 1000.0, 1.0)
    LineReport().epoch_finished(row, 1)
    assert "train acc nan  test acc nan" in capsys.readouterr().out


def test_evaluate_refuses_labels_of_another_shape():
    with pytest.raises(ShapeError, match=r"evaluate: labels must be \(2,\), got shape \(2, 1\)"):
        evaluate(nn.Identity(), [(mg.eye(2), mg.tensor([[0], [1]]))])


def test_on_every_device(device):
    here, there = small_model(), small_model().to(device)
    expected = train_epoch(here, batches(), optim.SGD(here.parameters(), lr=0.5))
    found = train_epoch(there, batches(), optim.SGD(there.parameters(), lr=0.5))
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert found.accuracy == expected.accuracy
    assert evaluate(there, batches()) == evaluate(here, batches())


def test_diverging_is_one_error_without_warnings(recwarn):
    """NumPy's remarks about overflow would end up on stderr."""
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    with pytest.raises(NonFiniteError, match="training diverged"):
        train_epoch(model, batches(sizes=(8,) * 5), optim.SGD(model.parameters(), lr=1e30))
    assert [str(warning.message) for warning in recwarn] == []
