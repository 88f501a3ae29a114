"""Population statistics: against Algorithm 2 written out with loops, and what must stay as it was."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import ArgumentError, NonFiniteError
from minigrad.training import population_statistics, using_population_statistics
from minigrad.training.population import batch_norm_layers


class Tutorial(nn.Module):
    """A reader's own batch norm: plain tensors as averages, and the mode is asked from autograd."""

    def __init__(self, features):
        super().__init__()
        self.gamma = nn.Parameter(mg.ones(1, features))
        self.beta = nn.Parameter(mg.zeros(1, features))
        self.moving_mean = mg.zeros(1, features)
        self.moving_var = mg.ones(1, features)

    def forward(self, X):
        if not mg.is_grad_enabled() or not self.training:
            return self.gamma * (X - self.moving_mean) / (self.moving_var + 1e-5).sqrt() + self.beta
        mean = X.mean(dim=0, keepdim=True)
        var = ((X - mean) ** 2).mean(dim=0, keepdim=True)
        self.moving_mean = (0.9 * self.moving_mean + 0.1 * mean).data
        self.moving_var = (0.9 * self.moving_var + 0.1 * var).data
        return self.gamma * (X - mean) / (var + 1e-5).sqrt() + self.beta


def networks():
    """The same function, once with each kind of batch norm: (model, names of the averages of its layers)."""
    return {
        "framework": (lambda f: nn.BatchNorm1d(f), "running_mean", "running_var"),
        "from scratch": (lambda f: nn.BatchNorm(f, num_dims=2), "moving_mean", "moving_var"),
        "a reader's": (Tutorial, "moving_mean", "moving_var"),
    }


def build(make):
    mg.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 5), make(5), nn.Sigmoid(), nn.Linear(5, 3), make(3), nn.Linear(3, 2))


def data(sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [(mg.tensor(rng.normal(2, 3, (n, 4)).astype(np.float32)), mg.zeros(n)) for n in sizes]


def algorithm_2(model, loader):
    """E[x] and Var[x] of the two layers, in float64, one value at a time; batches of one size."""
    w1, b1 = (p.detach().numpy().astype(np.float64) for p in (model[0].weight, model[0].bias))
    w2, b2 = (p.detach().numpy().astype(np.float64) for p in (model[3].weight, model[3].bias))
    batch_means, batch_vars = ([], []), ([], [])
    for X, _ in loader:
        x = X.numpy().astype(np.float64)
        m = len(x)
        for layer, (w, b) in enumerate(((w1, b1), (w2, b2))):
            x = x @ w.T + b
            mean = [sum(row[c] for row in x) / m for c in range(x.shape[1])]
            var = [sum((row[c] - mean[c]) ** 2 for row in x) / m for c in range(x.shape[1])]
            batch_means[layer].append(mean)
            batch_vars[layer].append(np.array(var) * m / (m - 1))
            x = 1 / (1 + np.exp(-(x - mean) / np.sqrt(np.array(var) + 1e-5)))
    return [
        (np.mean(means, axis=0), np.mean(vs, axis=0))
        for means, vs in zip(batch_means, batch_vars, strict=True)
    ]


@pytest.mark.parametrize("kind", networks())
def test_algorithm_2_of_the_paper(kind):
    make, mean, var = networks()[kind]
    model, loader = build(make), data((8, 8, 8))
    expected = algorithm_2(model, loader)
    found = population_statistics(model, loader)
    assert list(found) == ["1", "4"]
    for name, (e, v) in zip(found, expected, strict=True):
        layer = model[int(name)]
        np.testing.assert_allclose(found[name].mean, e, rtol=1e-5)
        np.testing.assert_allclose(found[name].var, v, rtol=1e-5)
        np.testing.assert_allclose(getattr(layer, mean).numpy().reshape(-1), e, rtol=1e-5)
        np.testing.assert_allclose(getattr(layer, var).numpy().reshape(-1), v, rtol=1e-5)


def test_unequal_batches_are_pooled():
    """For one layer: the mean of all values, and the sum of squares within batches over sum (m - 1)."""
    model = nn.Sequential(nn.BatchNorm2d(2))
    rng = np.random.default_rng(0)
    xs = [rng.normal(5, 2, (n, 2, 3, 3)).astype(np.float32) for n in (4, 4, 1)]
    found = population_statistics(model, [(mg.tensor(x),) for x in xs])["0"]
    for c in range(2):
        values = [x[:, c].astype(np.float64).ravel() for x in xs]
        mean = sum(v.sum() for v in values) / 81
        var = sum(((v - v.mean()) ** 2).sum() for v in values) / (81 - 3)
        assert found.mean[c] == pytest.approx(mean, rel=1e-12)
        assert found.var[c] == pytest.approx(var, rel=1e-12)


def test_a_mean_far_from_zero_keeps_its_digits():
    x = (1e4 + np.random.default_rng(0).normal(0, 0.1, (1000, 1))).astype(np.float32)
    found = population_statistics(nn.Sequential(nn.BatchNorm1d(1)), [(mg.tensor(x),)])["0"]
    assert found.var[0] == pytest.approx(x.astype(np.float64).var(ddof=1), rel=1e-9)


def state(model):
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def test_everything_else_stays_as_it_was():
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 2))
    model[3].eval()
    model[0].bias.requires_grad = False
    before = state(model)
    drawn = mg.backend.random.get_state()
    population_statistics(model, data((8, 8)))
    after = state(model)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"1.running_mean", "1.running_var"}
    assert [layer.training for layer in model] == [True, True, True, False]
    assert [p.requires_grad for p in model.parameters()] == [True, False, True, True, True, True]
    assert all(p.grad is None for p in model.parameters())
    assert mg.backend.random.get_state() == drawn  # dropout drew nothing
    assert model[1]._forward_pre_hooks == []


def test_no_graph_is_built_though_gradients_are_on():
    """A graph over each batch would cost memory and time; the reader's layer needs gradients switched on."""
    model = build(Tutorial)
    seen = []
    model.register_forward_hook(lambda module, args, y: seen.append((mg.is_grad_enabled(), y.requires_grad)))
    with mg.no_grad():
        population_statistics(model, data((8, 8)))
    assert seen == [(True, False)] * 2


def test_the_context_puts_the_moving_averages_back():
    model, loader = build(nn.BatchNorm1d), data((8, 8))
    model(loader[0][0])  # averages that are neither 0 nor 1
    before = state(model)
    with using_population_statistics(model, loader) as found:
        np.testing.assert_allclose(model[1].running_mean.numpy(), found["1"].mean, rtol=1e-6)
        inside = model.eval()(loader[0][0]).detach().numpy()
    np.testing.assert_equal(state(model), before)
    with pytest.raises(ZeroDivisionError), using_population_statistics(model, loader):
        1 / 0  # noqa: B018
    np.testing.assert_equal(state(model), before)
    population_statistics(model, loader)
    np.testing.assert_array_equal(model.eval()(loader[0][0]).detach().numpy(), inside)


def test_a_model_without_batch_norm_is_left_alone():
    def never():
        raise AssertionError("the data is not needed")
        yield

    assert population_statistics(nn.Sequential(nn.Linear(2, 2)), never()) == {}


def test_layers_without_averages_or_without_use_are_left_alone():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.used = nn.BatchNorm1d(4)
            self.unused = nn.BatchNorm1d(4)
            self.without = nn.BatchNorm1d(4, track_running_stats=False)

        def forward(self, x):
            return self.without(self.used(x))

    net = Net()
    assert list(batch_norm_layers(net)) == ["used", "unused"]
    assert list(population_statistics(net, data((8,)))) == ["used"]
    assert net.unused.running_mean.tolist() == [0.0] * 4


def test_bad_data():
    model = nn.Sequential(nn.BatchNorm(1, num_dims=2))
    with pytest.raises(ArgumentError, match="the loader gave no examples"):
        population_statistics(model, [])
    with pytest.raises(
        ArgumentError, match=r"layer 0 got one value per channel in each batch.*larger batches"
    ):
        population_statistics(model, [(mg.ones(1, 1),), (mg.zeros(1, 1),)])
    before = state(model)
    with pytest.raises(NonFiniteError, match="the inputs of layer 0 are not finite"):
        population_statistics(model, [(mg.tensor([[1.0], [float("nan")]]),)])
    np.testing.assert_equal(state(model), before)
    assert model.training


def test_predictions_come_out_as_with_whole_batch_statistics():
    """What it is for: with the statistics of the data, the outputs on the data are normalised."""
    model = nn.Sequential(nn.BatchNorm1d(4))
    ((X, _),) = loader = data((500,))
    population_statistics(model, loader)
    y = model.eval()(X).detach().numpy()
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(y.var(axis=0, ddof=1), 1, rtol=1e-4)


def test_on_every_device(device):
    loader = data((8, 8, 3))
    here, there = build(nn.BatchNorm1d), build(nn.BatchNorm1d).to(device)
    expected, found = population_statistics(here, loader), population_statistics(there, loader)
    for name in expected:
        np.testing.assert_allclose(found[name].mean, expected[name].mean, rtol=1e-5)
        np.testing.assert_allclose(found[name].var, expected[name].var, rtol=1e-5)
    assert there[1].running_mean.device == mg.backend.device(device)
