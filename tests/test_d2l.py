"""The tutorial's chapter runs after its import lines are changed; and its helper library, name by name.

`CHAPTER` does, cell by cell, what the chapter on batch normalisation does in its PyTorch edition with max
pooling, with the same calls. The imports differ, the number of epochs, and the data, which are garments.
"""

import ast
import re
import time

import numpy as np
import pytest

import minigrad as mg
from minigrad import d2l, data, nn, plot
from minigrad.errors import ArgumentError, ShapeError
from minigrad.nn import functional as F

IMPORTS = """
import minigrad as torch
from minigrad import nn, d2l
"""

FUNCTION = """
def batch_norm(X, gamma, beta, moving_mean, moving_var, eps, momentum):
    assert len(X.shape) in (2, 4)
    if torch.is_grad_enabled():
        if len(X.shape) == 4:
            mean = X.mean(dim=(0, 2, 3), keepdim=True)
            var = ((X - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
        else:
            mean = X.mean(dim=0)
            var = ((X - mean) ** 2).mean(dim=0)
        standardised = (X - mean) / torch.sqrt(var + eps)
        moving_mean = momentum * moving_mean + (1.0 - momentum) * mean
        moving_var = momentum * moving_var + (1.0 - momentum) * var
    else:
        standardised = (X - moving_mean) / torch.sqrt(moving_var + eps)
    return gamma * standardised + beta, moving_mean.data, moving_var.data
"""

LAYER = """
class BatchNorm(nn.Module):
    def __init__(self, num_features, num_dims):
        super().__init__()
        shape = (1, num_features, 1, 1) if num_dims == 4 else (1, num_features)
        self.gamma, self.beta = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))
        self.moving_mean, self.moving_var = torch.zeros(shape), torch.ones(shape)

    def forward(self, X):
        for name in ("moving_mean", "moving_var"):
            average = getattr(self, name)
            if average.device != X.device:
                setattr(self, name, average.to(X.device))
        Y, self.moving_mean, self.moving_var = batch_norm(
            X, self.gamma, self.beta, self.moving_mean, self.moving_var, eps=1e-5, momentum=0.9)
        return Y
"""

NETWORK = """
net = nn.Sequential(
    nn.Conv2d(1, 6, kernel_size=5), BatchNorm(6, num_dims=4), nn.Sigmoid(),
    nn.MaxPool2d(kernel_size=2, stride=2),
    nn.Conv2d(6, 16, kernel_size=5), BatchNorm(16, num_dims=4), nn.Sigmoid(),
    nn.MaxPool2d(kernel_size=2, stride=2), nn.Flatten(),
    nn.Linear(16*4*4, 120), BatchNorm(120, num_dims=2), nn.Sigmoid(),
    nn.Linear(120, 84), BatchNorm(84, num_dims=2), nn.Sigmoid(),
    nn.Linear(84, 10))
"""

TRAINING = """
lr, num_epochs, batch_size = 1.0, 2, 256
train_iter, test_iter = d2l.load_data_fashion_mnist(batch_size)
d2l.train_ch6(net, train_iter, test_iter, num_epochs, lr, d2l.try_gpu())
"""

GAMMA = """
list(net.children())[1].gamma.reshape((-1,)), list(net.children())[1].beta.reshape((-1,))
"""

GAMMA_BY_NUMBER = """
net[1].gamma.reshape((-1,)), net[1].beta.reshape((-1,))
"""

CONCISE = """
net = nn.Sequential(
    nn.Conv2d(1, 6, kernel_size=5), nn.BatchNorm2d(6), nn.Sigmoid(),
    nn.MaxPool2d(kernel_size=2, stride=2),
    nn.Conv2d(6, 16, kernel_size=5), nn.BatchNorm2d(16), nn.Sigmoid(),
    nn.MaxPool2d(kernel_size=2, stride=2), nn.Flatten(),
    nn.Linear(256, 120), nn.BatchNorm1d(120), nn.Sigmoid(),
    nn.Linear(120, 84), nn.BatchNorm1d(84), nn.Sigmoid(),
    nn.Linear(84, 10))
"""

RETRAIN = """
d2l.train_ch6(net, train_iter, test_iter, num_epochs, lr, d2l.try_gpu())
"""

CHAPTER = [IMPORTS, FUNCTION, LAYER, NETWORK, TRAINING, GAMMA, GAMMA_BY_NUMBER, CONCISE, RETRAIN]


@pytest.fixture
def small_data(monkeypatch):
    bundle = data.load("garments", train_size=768, test_size=100)
    monkeypatch.setattr(d2l, "load", lambda name: bundle)
    return bundle


def run_cells(cells):
    """Runs cells as a notebook does; the names they made, and the value of the last line of each."""
    names, values = {}, []
    for cell in cells:
        *body, last = ast.parse(cell).body
        exec(compile(ast.Module(body, []), "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            values.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
        else:
            exec(compile(ast.Module([last], []), "cell", "exec"), names)
            values.append(None)
    return names, values


CLOSING = (
    r"training on cpu\n"
    r"loss (\d\.\d{3}), train acc (0\.\d{3}), test acc (0\.\d{3})\n"
    r"\d+\.\d examples/sec on cpu\n"
)


def test_the_chapter_as_printed(small_data, capsys):
    names, values = run_cells(CHAPTER)
    out, err = capsys.readouterr()
    assert err == ""
    scratch, concise = re.findall(CLOSING, out)
    assert re.fullmatch(CLOSING * 2, out)
    for loss, train_acc, _ in (scratch, concise):
        assert float(loss) < 2.2  # below ln 10: two epochs of three steps have taught it something
        assert float(train_acc) > 0.15
    assert values[5][0].shape == values[5][1].shape == (6,)
    assert [v.tolist() for v in values[5]] == [v.tolist() for v in values[6]]
    assert values[5][0].tolist() != [1.0] * 6  # it has learned
    assert type(names["net"][1]) is nn.BatchNorm2d


def test_the_readers_layer_is_the_frameworks(small_data):
    """The chapter's class, nn.BatchNorm and nn.BatchNorm2d give one result, in training and in prediction."""
    names, _ = run_cells(CHAPTER[:3])
    x = mg.randn(8, 3, 4, 4)
    results = []
    for layer in (names["BatchNorm"](3, 4), nn.BatchNorm(3, 4), nn.BatchNorm2d(3)):
        y = layer(x)
        with mg.no_grad():
            prediction = layer.eval()(x)
        results.append((y.detach().numpy(), prediction.numpy()))
    for y, prediction in results[1:]:
        np.testing.assert_allclose(y, results[0][0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(prediction, results[0][1], rtol=2e-3, atol=1e-4)  # M against M - 1
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=1e-5, atol=1e-6)


def test_train_ch6_takes_the_tutorials_steps(small_data, capsys):
    """Xavier weights, SGD, cross-entropy, the figures of the last epoch: written out with the bare layers."""
    mg.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    train_iter, test_iter = d2l.load_data_fashion_mnist(256)
    mg.manual_seed(2)
    d2l.train_ch6(net, train_iter, test_iter, 2, 0.1, "cpu")

    mg.manual_seed(2)
    twin = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    twin.load_state_dict({name: value * 0 for name, value in net.state_dict().items()})
    mg.manual_seed(1)
    twin[1] = nn.Linear(784, 10)  # for the bias
    mg.manual_seed(2)
    nn.init.xavier_uniform_(twin[1].weight)
    for _ in range(2):
        total, right = 0.0, 0
        for X, y in train_iter:
            scores = twin(X)
            loss = F.cross_entropy(scores, y)
            twin.zero_grad()
            loss.backward()
            with mg.no_grad():
                for p in twin.parameters():
                    p -= 0.1 * p.grad
            total += loss.item() * len(y)
            right += d2l.accuracy(scores, y)
    np.testing.assert_allclose(
        twin[1].weight.detach().numpy(), net[1].weight.detach().numpy(), rtol=1e-5, atol=1e-7
    )
    test_acc = d2l.evaluate_accuracy(twin, test_iter)
    expected = f"loss {total / 768:.3f}, train acc {right / 768:.3f}, test acc {test_acc:.3f}\n"
    assert expected in capsys.readouterr().out


def test_train_ch6_wants_an_epoch():
    with pytest.raises(ArgumentError, match="num_epochs must be at least 1, got 0"):
        d2l.train_ch6(nn.Linear(1, 1), [], [], 0, 0.1)


# 1. Data and devices ---


def test_load_data(small_data):
    train_iter, test_iter = d2l.load_data_fashion_mnist(32, resize=14)
    X, y = next(iter(train_iter))
    assert (X.shape, X.dtype, y.shape, y.dtype) == ((32, 1, 14, 14), mg.float32, (32,), mg.int64)
    assert 0 <= X.min().item() < X.max().item() <= 1
    first, second = ([label for _, y in train_iter for label in y.tolist()] for _ in range(2))
    assert first != second  # shuffled, anew in each epoch
    assert sorted(first) == sorted(second)
    assert [y.tolist() for _, y in test_iter] == [y.tolist() for _, y in test_iter]
    assert len(test_iter) == 4


def test_load_data_says_when_it_is_not_fashion_mnist(capsys, monkeypatch, tmp_path):
    """The data come from minigrad.data.load("auto"), which prints its note."""
    asked = []
    bundle = data.load("garments", train_size=10, test_size=10)
    monkeypatch.setattr(d2l, "load", lambda name: asked.append(name) or bundle)
    d2l.load_data_fashion_mnist(5)
    assert asked == ["auto"]


def test_load_array():
    loader = d2l.load_array((mg.arange(6), mg.arange(6)), 4, is_train=False)
    assert [x.tolist() for x, _ in loader] == [[0, 1, 2, 3], [4, 5]]


def test_labels():
    assert d2l.get_fashion_mnist_labels(mg.arange(10)) == [
        "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    ]  # fmt: skip
    assert d2l.get_dataloader_workers() == 0


def test_devices(monkeypatch):
    if not mg.cuda.is_available():
        assert str(d2l.try_gpu()) == "cpu"
        assert [str(device) for device in d2l.try_all_gpus()] == ["cpu"]
    monkeypatch.setattr(d2l, "_gpus", lambda: 2)
    monkeypatch.setattr(d2l.backend, "device", str)
    assert (d2l.try_gpu(), d2l.try_gpu(1), d2l.try_gpu(2)) == ("cuda:0", "cuda:1", "cpu")
    assert d2l.try_all_gpus() == ["cuda:0", "cuda:1"]


# 2. Small things ---


def test_accumulator():
    metric = d2l.Accumulator(3)
    metric.add(mg.tensor(0.5), 2, True)
    metric.add(1, 1, 0)
    assert [metric[i] for i in range(3)] == [1.5, 3.0, 1.0]
    metric.reset()
    assert metric.data == [0.0] * 3
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        metric.add(1, 2)


def test_timer(monkeypatch):
    now = iter([10.0, 12.0, 20.0, 21.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    timer = d2l.Timer()
    assert timer.stop() == 2.0
    timer.start()
    assert timer.stop() == 1.0
    assert (timer.times, timer.sum(), timer.avg(), timer.cumsum()) == ([2.0, 1.0], 3.0, 1.5, [2.0, 3.0])


def test_accuracy_counts():
    y = mg.tensor([0, 2])
    assert d2l.accuracy(mg.tensor([[0.1, 0.3, 0.6], [0.3, 0.2, 0.5]]), y) == 1.0
    assert d2l.accuracy(mg.tensor([0.0, 2.0]), y) == 2.0
    with pytest.raises(ShapeError, match=r"y_hat \(3,\) and y \(2,\) do not fit"):
        d2l.accuracy(mg.zeros(3), y)


def test_evaluate_accuracy():
    loader = [(mg.eye(3), mg.tensor([0, 1, 0])), (mg.eye(3)[:1], mg.tensor([0]))]
    net = nn.Sequential(nn.BatchNorm1d(3))
    assert d2l.evaluate_accuracy(net, loader) == d2l.evaluate_accuracy_gpu(net, loader, "cpu") == 0.75
    assert net.training
    assert d2l.evaluate_accuracy(lambda X: X, loader) == 0.75


def test_sgd_and_losses():
    w = mg.tensor([1.0, 2.0], requires_grad=True)
    (w * mg.tensor([3.0, 4.0])).sum().backward()
    d2l.sgd([w], lr=0.5, batch_size=2)
    assert w.tolist() == [0.25, 1.0]
    assert w.grad.tolist() == [0.0, 0.0]
    assert d2l.squared_loss(mg.tensor([[1.0], [4.0]]), mg.tensor([0.0, 2.0])).tolist() == [[0.5], [2.0]]
    assert d2l.linreg(mg.ones(2, 3), mg.ones(3, 1), 1.0).tolist() == [[4.0], [4.0]]


def test_linear_regression_from_scratch():
    """Chapter 3's first program: data, model, loss, steps; it finds the weights that made the data."""
    mg.manual_seed(0)
    true_w, true_b = mg.tensor([2.0, -3.4]), 4.2
    features, labels = d2l.synthetic_data(true_w, true_b, 1000)
    assert (features.shape, labels.shape) == ((1000, 2), (1000, 1))
    noise = labels.numpy()[:, 0] - (features.numpy() @ true_w.numpy() + true_b)
    assert 0.008 < noise.std() < 0.012
    w, b = mg.zeros(2, 1, requires_grad=True), mg.zeros(1, requires_grad=True)
    for _ in range(3):
        for X, y in d2l.load_array((features, labels), 10):
            d2l.squared_loss(d2l.linreg(X, w, b), y).sum().backward()
            d2l.sgd([w, b], 0.03, 10)
    np.testing.assert_allclose(w.detach().numpy()[:, 0], true_w.numpy(), atol=0.01)
    assert b.item() == pytest.approx(true_b, abs=0.01)


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_evaluate_loss_weighs_examples(reduction):
    data_iter = [(mg.tensor([[1.0], [2.0]]), mg.tensor([0.0, 0.0])), (mg.tensor([[3.0]]), mg.tensor([0.0]))]
    loss = nn.MSELoss(reduction=reduction)
    assert d2l.evaluate_loss(lambda X: X, data_iter, loss) == pytest.approx((1 + 4 + 9) / 3)
    scores = [(mg.zeros(3, 4), mg.tensor([0, 1, 2]))]
    found = d2l.evaluate_loss(nn.Identity(), scores, nn.CrossEntropyLoss(reduction=reduction))
    assert found == pytest.approx(np.log(4))


def test_softmax_regression_from_scratch_is_the_concise_one(small_data):
    """Chapter 3 twice: an own loss, net and updater, and those of the framework."""
    train_iter, test_iter = d2l.load_data_fashion_mnist(256)
    W = (0.01 * mg.randn(784, 10)).requires_grad_()
    b = mg.zeros(10, requires_grad=True)
    layer = nn.Linear(784, 10)
    with mg.no_grad():
        layer.weight.copy_(W.T)
        layer.bias.zero_()

    def net(X):
        return F.softmax(X.reshape(-1, 784) @ W + b, dim=1)

    def cross_entropy(y_hat, y):
        return -mg.log(y_hat[range(len(y_hat)), y])

    mg.manual_seed(3)
    by_hand = d2l.train_epoch_ch3(net, train_iter, cross_entropy, lambda n: d2l.sgd([W, b], 0.1, n))
    mg.manual_seed(3)
    concise = nn.Sequential(nn.Flatten(), layer).eval()
    optimizer = mg.optim.SGD(concise.parameters(), lr=0.1)
    found = d2l.train_epoch_ch3(concise, train_iter, nn.CrossEntropyLoss(reduction="none"), optimizer)
    assert concise.training
    np.testing.assert_allclose(found, by_hand, rtol=1e-4)
    np.testing.assert_allclose(layer.weight.detach().numpy(), W.T.detach().numpy(), rtol=1e-3, atol=1e-6)

    points = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(d2l.Animator, "add", lambda self, x, y: points.append((x, y)))
        d2l.train_ch3(concise, train_iter, test_iter, nn.CrossEntropyLoss(), 2, optimizer)
    assert [x for x, _ in points] == [1, 2]
    assert points[1][1][0] < points[0][1][0] < found[0]
    assert points[1][1][2] == d2l.evaluate_accuracy(concise, test_iter)

    d2l.predict_ch3(concise, test_iter, n=3)
    X, y = next(iter(test_iter))
    right, guess = d2l.get_fashion_mnist_labels(y), d2l.get_fashion_mnist_labels(concise(X).argmax(dim=1))
    titles = [axes.get_title() for axes in d2l.plt.gcf().axes]
    assert titles == [f"{a}\n{b}" for a, b in zip(right[:3], guess[:3], strict=True)]
    d2l.plt.close("all")


def test_corr2d():
    X, K = mg.randn(5, 6), mg.randn(2, 3)
    expected = [[(X.numpy()[i : i + 2, j : j + 3] * K.numpy()).sum() for j in range(4)] for i in range(4)]
    np.testing.assert_allclose(d2l.corr2d(X, K).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_all_names_exist():
    assert [name for name in d2l.__all__ if not hasattr(d2l, name)] == []
    with pytest.raises(ShapeError, match=r"y_hat \(2,\) and y \(2, 1\) do not fit"):
        d2l.accuracy(mg.zeros(2, 3), mg.zeros(2, 1))


def test_short_names():
    x = d2l.tensor([[1.0, 2.0], [3.0, 5.0]])
    assert d2l.reduce_sum(x).item() == 11.0
    assert d2l.reduce_sum(x, 0, keepdim=True).tolist() == [[4.0, 7.0]]
    assert d2l.reduce_mean(x, 1).tolist() == [1.5, 4.0]
    assert d2l.argmax(x, axis=1).tolist() == [1, 1]
    assert d2l.astype(x, mg.int64).dtype == mg.int64
    assert d2l.reshape(x, (-1,)).tolist() == [1.0, 2.0, 3.0, 5.0]
    assert d2l.transpose(x).tolist() == [[1.0, 3.0], [2.0, 5.0]]
    assert str(d2l.to(x, "cpu").device) == "cpu"
    assert d2l.size(x) == 4
    assert type(d2l.numpy(x)) is np.ndarray
    assert d2l.concat([x, x]).shape == (4, 2)
    assert d2l.stack([x, x]).shape == (2, 2, 2)
    assert d2l.matmul(x, d2l.eye(2)).tolist() == x.tolist()
    for name in ("ones", "zeros", "rand"):
        assert getattr(d2l, name)(2, 3).shape == (2, 3)
    assert d2l.normal(0, 1, (2, 3)).shape == (2, 3)
    assert d2l.arange(3).tolist() == [0, 1, 2]
    assert d2l.linspace(0, 1, 3).tolist() == [0.0, 0.5, 1.0]
    for name in ("sin", "cos", "exp", "log", "abs"):
        np.testing.assert_allclose(getattr(d2l, name)(x).numpy(), getattr(np, name)(x.numpy()), rtol=1e-6)
    assert (d2l.float32, d2l.int32) == (mg.float32, mg.int32)


# 3. Pictures ---


def test_animator_keeps_the_points_and_can_be_drawn_anywhere():
    animator = d2l.Animator(xlabel="epoch", xlim=[1, 3], legend=["loss", "acc", "test"])
    animator.add(1, (0.5, 0.7, None))
    animator.add(2, (mg.tensor(0.25), None, 0.8))
    assert animator.X == [[1.0, 2.0], [1.0], [2.0]]
    assert animator.Y == [[0.5, 0.25], [0.7], [0.8]]
    axes = animator.axes[0]
    assert [line.get_xydata().tolist() for line in axes.lines] == [
        [[1, 0.5], [2, 0.25]],
        [[1, 0.7]],
        [[2, 0.8]],
    ]
    assert (axes.get_xlabel(), axes.get_xlim()) == ("epoch", (1, 3))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["loss", "acc", "test"]
    assert animator.fig is animator.fig
    one = d2l.Animator(nrows=1, ncols=2)
    one.add(0, 5)
    assert (one.X, one.Y, len(one.axes)) == ([[0.0]], [[5.0]], 2)


def test_train_ch6_shows_its_last_state_in_a_notebook(small_data, monkeypatch, capsys):
    drawn = []

    class Display:
        def __init__(self, draw):
            self.draw, self.changes = draw, 0
            drawn.append(self)

        def changed(self):
            self.changes += 1

        def flush(self):
            self.flushed_at = self.changes
            self.points = [len(line.get_xdata()) for line in self.draw().axes[0].lines]

    monkeypatch.setattr(plot, "NotebookDisplay", Display)
    d2l.train_ch6(
        nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), *d2l.load_data_fashion_mnist(64), 2, 0.1, "cpu"
    )
    (display,) = drawn
    assert display.points == [12, 12, 2]  # 12 batches: every second one, twice; and the test after each epoch
    assert display.flushed_at == display.changes


def test_show_images():
    axes = d2l.show_images(mg.rand(4, 8, 8), 2, 2, titles=["a", "b", "c", "d"])
    assert [one.get_title() for one in axes] == ["a", "b", "c", "d"]
    assert axes[3].images[0].get_array().shape == (8, 8)
    d2l.plt.close("all")


def test_plot():
    """`d2l.plot` is the tutorial's function, not minigrad's module of that name."""
    x = mg.arange(0.0, 3.0, 1.0)
    figure = plot.new_figure()
    axes = figure.subplots()
    d2l.plot(x, [x**2, 2 * x], "x", "f(x)", legend=["x^2", "2x"], xlim=[0, 2], axes=axes)
    assert [line.get_xydata().tolist() for line in axes.lines] == [
        [[0, 0], [1, 1], [2, 4]],
        [[0, 0], [1, 2], [2, 4]],
    ]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_xlim()) == ("x", "f(x)", (0, 2))
    d2l.plot([3.0, 5.0], axes=axes)
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[0, 3], [1, 5]]]
    d2l.plot([[0, 1], [0, 1, 2]], [[5, 6], [7, 8, 9]], yscale="log", axes=axes)
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[0, 5], [1, 6]], [[0, 7], [1, 8], [2, 9]]]
    assert axes.get_yscale() == "log"
    with pytest.raises(ArgumentError, match=r"do not fit together, their curves have \[2\] and \[3\] points"):
        d2l.plot([0, 1], [1, 2, 3], axes=axes)
    d2l.plot(mg.tensor([1.0, 2.0], requires_grad=True))
    assert d2l.plt.gca().lines[0].get_ydata().tolist() == [1.0, 2.0]
    d2l.plt.close("all")
    d2l.plt.rcdefaults()


def test_plt_is_pyplot_when_asked_for():
    import matplotlib.pyplot

    assert d2l.plt is matplotlib.pyplot
    before = list(d2l.plt.rcParams["figure.figsize"])
    d2l.use_svg_display()
    d2l.set_figsize((2, 1))
    assert list(d2l.plt.rcParams["figure.figsize"]) == [2, 1]
    d2l.plt.rcParams["figure.figsize"] = before
    with pytest.raises(
        AttributeError, match="no attribute 'train_ch13'; it has the helpers of .*chapters 2 to 7"
    ):
        d2l.train_ch13  # noqa: B018
