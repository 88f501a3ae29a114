"""The batch norm layers: both conventions against numbers computed by hand, and against PyTorch."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from tests import oracles
from tests.nn.support import assert_close, check_gradients, compare

# Two batches of one channel. By hand: means 2 and 6; variances divided by M 1 and 4, by M - 1 2 and 8.
FIRST, SECOND = [[1.0], [3.0]], [[4.0], [8.0]]


# 1. BatchNorm1d and BatchNorm2d: PyTorch's conventions ---------------------------------------------------


def test_decision_momentum_weighs_the_new_batch_and_running_variance_is_divided_by_M_minus_1():
    layer = nn.BatchNorm1d(1, eps=0.0, momentum=0.25)
    assert layer(mg.tensor(FIRST)).tolist() == [[-1.0], [1.0]]  # normalised by the variance divided by M
    assert layer.running_mean.tolist() == [0.75 * 0 + 0.25 * 2]
    assert layer.running_var.tolist() == [0.75 * 1 + 0.25 * 2]
    assert layer(mg.tensor(SECOND)).tolist() == [[-1.0], [1.0]]
    assert layer.running_mean.tolist() == [0.75 * 0.5 + 0.25 * 6]
    assert layer.running_var.tolist() == [0.75 * 1.25 + 0.25 * 8]


def test_decision_defaults_and_names_are_those_of_torch():
    layer = nn.BatchNorm2d(3)
    assert (layer.eps, layer.momentum) == (1e-5, 0.1)
    assert {name: (v.tolist(), v.dtype) for name, v in layer.state_dict().items()} == {
        "weight": ([1.0] * 3, mg.float32),
        "bias": ([0.0] * 3, mg.float32),
        "running_mean": ([0.0] * 3, mg.float32),
        "running_var": ([1.0] * 3, mg.float32),
        "num_batches_tracked": (0, mg.int64),
    }
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]


def test_evaluation_uses_the_running_statistics_and_does_not_move_them():
    layer = nn.BatchNorm1d(1, eps=0.0, momentum=0.5)
    layer(mg.tensor(FIRST))  # running mean 1, variance 1.5
    layer.eval()
    y = layer(mg.tensor([[4.0]]))
    assert y.item() == pytest.approx(3 / 1.5**0.5)
    assert (layer.running_mean.item(), layer.running_var.item()) == (1.0, 1.5)
    assert layer.num_batches_tracked.item() == 1


def test_batches_are_counted_and_can_be_forgotten():
    layer = nn.BatchNorm1d(1)
    for _ in range(3):
        layer(mg.tensor(FIRST))
    assert layer.num_batches_tracked.item() == 3
    layer.reset_running_stats()
    assert [b.tolist() for b in layer.buffers()] == [[0.0], [1.0], 0]


def test_momentum_none_is_the_plain_average_over_batches():
    layer = nn.BatchNorm1d(1, momentum=None)
    for batch in (FIRST, SECOND, FIRST):
        layer(mg.tensor(batch))
    assert layer.running_mean.item() == pytest.approx((2 + 6 + 2) / 3)
    assert layer.running_var.item() == pytest.approx((2 + 8 + 2) / 3)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4, affine=False), nn.GroupNorm(2, 4, affine=False)])
def test_affine_false_has_nothing_to_learn(layer):
    assert list(layer.parameters()) == []
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    y = layer(mg.Tensor(x)).numpy()
    if isinstance(layer, nn.BatchNorm1d):
        assert_close(y, oracles.batch_norm(x)[0])


def test_without_running_statistics_evaluation_uses_the_batch_too():
    layer = nn.BatchNorm1d(1, eps=0.0, track_running_stats=False).eval()
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert layer.running_mean is layer.running_var is layer.num_batches_tracked is None
    assert layer(mg.tensor(FIRST)).tolist() == [[-1.0], [1.0]]
    layer.reset_running_stats()


@pytest.mark.parametrize("make", [nn.BatchNorm1d, nn.BatchNorm2d])
def test_decision_one_value_per_channel_is_refused_and_explained(make):
    layer = make(3)
    x = mg.zeros(1, 3) if make is nn.BatchNorm1d else mg.zeros(1, 3, 1, 1)
    with pytest.raises(ValueError, match="expected more than 1 value per channel when training") as caught:
        layer(x)
    assert str(caught.value).endswith(
        "a single value minus its own mean is 0, so nothing would be learned: use a larger batch "
        "(drop_last=True drops a last batch of one), or .eval()"
    )
    assert layer.num_batches_tracked.item() == 0
    assert layer.running_var.tolist() == [1.0] * 3
    assert layer.eval()(x).shape == x.shape


OPTIONS = [
    {},
    {"momentum": 0.3, "eps": 1e-3},
    {"momentum": None},
    {"affine": False},
    {"track_running_stats": False},
    {"affine": False, "track_running_stats": False, "momentum": 1.0},
]


@pytest.mark.parity
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2), (4, 3, 2, 5), (1, 3, 2, 2), (0, 3, 2, 2)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_three_steps_and_evaluation_equal_torch(torch, shape, options, dtype):
    name = "BatchNorm2d" if len(shape) == 4 else "BatchNorm1d"
    ours = getattr(nn, name)(3, **options, dtype=dtype)
    theirs = getattr(torch.nn, name)(3, **options, dtype=getattr(torch, np.dtype(dtype).name))
    rng = np.random.default_rng(0)
    tolerance = 1e-10 if dtype is np.float64 else 1e-5
    for training in (True, True, True, False):
        x = (3 * rng.standard_normal(shape) + 1).astype(dtype)
        ours.train(training)
        theirs.train(training)
        compare(torch, ours, theirs, [x], 10 * tolerance)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        for mine, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
            assert_close(mine.numpy(), other.numpy(), tolerance)


def test_statistics_are_no_part_of_the_graph():
    layer = nn.BatchNorm1d(2)
    x = mg.randn(4, 2).requires_grad_()
    layer(x).sum().backward()
    assert not any(b.requires_grad for b in layer.buffers())
    layer(x).sum().backward()  # a second step does not reach into the first


def test_the_layer_in_half_the_modes_under_no_grad():
    layer = nn.BatchNorm1d(2)
    with mg.no_grad():
        assert not layer(mg.randn(4, 2)).requires_grad
    assert layer.num_batches_tracked.item() == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: nn.BatchNorm1d(3)(mg.zeros(2, 3, 4, 4)),
            ShapeError,
            r"BatchNorm1d: expected \(N, C\) or \(N, C, L\), got shape \(2, 3, 4, 4\)",
        ),
        (
            lambda: nn.BatchNorm2d(3)(mg.zeros(2, 3)),
            ShapeError,
            r"BatchNorm2d: expected \(N, C, H, W\), got shape \(2, 3\)",
        ),
        (lambda: nn.BatchNorm1d(3)(mg.zeros(2, 4)), ShapeError, "the layer has 3 channels, x has 4"),
        (lambda: nn.BatchNorm1d(3)(mg.zeros(2, 3).double()), DtypeError, "x is float64, layer is float32"),
        (lambda: nn.BatchNorm1d(0), ArgumentError, "BatchNorm1d: num_features must be at least 1, got 0"),
        (
            lambda: nn.BatchNorm2d(1.5),
            ArgumentError,
            "BatchNorm2d: num_features must be a whole number, got 1.5",
        ),
        (
            lambda: nn.BatchNorm(3, 3),
            ArgumentError,
            r"num_dims must be 2 for \(N, C\) or 4 for \(N, C, H, W\), got 3",
        ),
        (
            lambda: nn.BatchNorm(3, 2)(mg.zeros(2, 4)),
            ShapeError,
            r"BatchNorm: expected \(N, C\) with C = 3, got \(2, 4\)",
        ),
        (
            lambda: nn.BatchNorm(3, 4)(mg.zeros(2, 3)),
            ShapeError,
            r"expected \(N, C, H, W\) with C = 3, got \(2, 3\)",
        ),
        (lambda: nn.GroupNorm(2, 3), ArgumentError, "GroupNorm: 3 channels cannot be split into 2 groups"),
        (lambda: nn.GroupNorm(0, 3), ArgumentError, "GroupNorm: 3 channels cannot be split into 0 groups"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


# 2. BatchNorm from scratch: the tutorial's conventions ---------------------------------------------------


def test_decision_from_scratch_momentum_weighs_the_old_value_and_variance_is_divided_by_M():
    layer = nn.BatchNorm(1, num_dims=2, eps=0.0, momentum=0.75)
    assert layer(mg.tensor(FIRST)).tolist() == [[-1.0], [1.0]]
    assert layer.moving_mean.tolist() == [[0.75 * 0 + 0.25 * 2]]
    assert layer.moving_var.tolist() == [[0.75 * 1 + 0.25 * 1]]
    layer(mg.tensor(SECOND))
    assert layer.moving_mean.tolist() == [[0.75 * 0.5 + 0.25 * 6]]
    assert layer.moving_var.tolist() == [[0.75 * 1 + 0.25 * 4]]


@pytest.mark.parametrize(("num_dims", "shape"), [(2, (1, 3)), (4, (1, 3, 1, 1))])
def test_decision_from_scratch_names_shapes_and_defaults(num_dims, shape):
    layer = nn.BatchNorm(3, num_dims)
    assert (layer.eps, layer.momentum) == (1e-5, 0.9)
    assert {k: v.shape for k, v in layer.state_dict().items()} == dict.fromkeys(
        ["gamma", "beta", "moving_mean", "moving_var"], shape
    )
    assert [name for name, _ in layer.named_parameters()] == ["gamma", "beta"]
    assert [name for name, _ in layer.named_buffers()] == ["moving_mean", "moving_var"]
    assert layer.gamma.tolist() == mg.ones(shape).tolist() == layer.moving_var.tolist()


@pytest.mark.parametrize(("num_dims", "shape"), [(2, (1, 3)), (4, (1, 3, 1, 1))])
def test_decision_from_scratch_a_batch_of_one_gives_beta(num_dims, shape):
    layer = nn.BatchNorm(3, num_dims)
    with mg.no_grad():
        layer.beta.copy_(np.array([1.0, 2.0, 3.0]).reshape(shape))
    x = mg.randn(*shape).requires_grad_()
    y = layer(x)
    assert y.tolist() == layer.beta.tolist()
    (y * y).sum().backward()
    assert not x.grad.any()
    assert not layer.gamma.grad.any()


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 3, 2)], ids=str)
def test_from_scratch_equals_the_paper_and_its_gradient_comes_from_autograd(shape):
    rng = np.random.default_rng(0)
    layer = nn.BatchNorm(3, len(shape)).double()
    gamma, beta, x = rng.standard_normal(3), rng.standard_normal(3), rng.standard_normal(shape) * 2 + 1
    layer.gamma.data = mg.Tensor(gamma.reshape(layer.gamma.shape))
    layer.beta.data = mg.Tensor(beta.reshape(layer.beta.shape))
    t = mg.Tensor(x, requires_grad=True)
    y = layer(t)
    assert_close(y.detach().numpy(), oracles.batch_norm(x, gamma, beta)[0])
    gy = rng.standard_normal(shape)
    y.backward(gy)
    gx, ggamma, gbeta = oracles.batch_norm_gradient(x, gamma, gy)
    assert_close(t.grad.numpy(), gx, 1e-9)
    assert_close(layer.gamma.grad.numpy().ravel(), ggamma, 1e-9)
    assert_close(layer.beta.grad.numpy().ravel(), gbeta, 1e-9)


def test_from_scratch_gradients_in_both_modes():
    layer = nn.BatchNorm(2, 4).double()
    x = np.random.default_rng(0).standard_normal((3, 2, 2, 2))
    layer.momentum = 1.0  # gradcheck calls often; the statistics must not move
    check_gradients(
        lambda x, g, b: use(layer, x, g, b), [x, *np.random.default_rng(1).standard_normal((2, 1, 2, 1, 1))]
    )
    layer.eval()
    check_gradients(
        lambda x, g, b: use(layer, x, g, b), [x, *np.random.default_rng(1).standard_normal((2, 1, 2, 1, 1))]
    )


def use(layer: nn.BatchNorm, x: mg.Tensor, gamma: mg.Tensor, beta: mg.Tensor) -> mg.Tensor:
    """The layer with these tensors as gamma and beta."""
    vars(layer).update(gamma=gamma, beta=beta)
    return layer(x)


def test_from_scratch_evaluation_uses_the_moving_averages():
    layer = nn.BatchNorm(1, 2, eps=3.0, momentum=0.5)
    layer(mg.tensor(FIRST))  # moving mean 1, variance 1
    layer.eval()
    assert layer(mg.tensor([[4.0]])).tolist() == [[1.5]]  # (4 - 1) / sqrt(1 + 3)
    assert layer.moving_mean.tolist() == [[1.0]]


def test_from_scratch_statistics_stay_buffers_and_out_of_the_graph():
    layer = nn.BatchNorm(2, 2)
    mean = layer.moving_mean
    layer(mg.randn(4, 2).requires_grad_()).sum().backward()
    assert layer.moving_mean is mean
    assert isinstance(layer.moving_var, nn.Buffer)
    assert not layer.moving_var.requires_grad


def test_from_scratch_follows_a_model_into_float64():
    layer = nn.BatchNorm(2, 2).double()
    assert layer(mg.randn(4, 2).double()).dtype == mg.float64
    assert layer.moving_mean.dtype == mg.float64


# 3. LayerNorm and GroupNorm ------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layer_norm_and_group_norm_equal_torch(torch, dtype):
    x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(dtype)
    theirs_dtype = getattr(torch, np.dtype(dtype).name)
    for name, args, options in (
        ("LayerNorm", (5,), {}),
        ("LayerNorm", ((4, 5),), {"eps": 1e-3}),
        ("LayerNorm", (5,), {"bias": False}),
        ("LayerNorm", (5,), {"elementwise_affine": False}),
        ("GroupNorm", (2, 4), {}),
        ("GroupNorm", (4, 4), {"eps": 1e-3, "affine": False}),
    ):
        ours = getattr(nn, name)(*args, **options, dtype=dtype)
        theirs = getattr(torch.nn, name)(*args, **options, dtype=theirs_dtype)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        compare(torch, ours, theirs, [x], 1e-10 if dtype is np.float64 else 1e-4)
