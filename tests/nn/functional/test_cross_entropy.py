"""Losses of class labels: every argument against PyTorch and sums written out, bad labels, gradients."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
import minigrad.nn.functional as F
from minigrad.errors import ArgumentError, DtypeError, GradientError, LabelError, ShapeError
from tests import oracles
from tests.nn import support
from tests.nn.support import assert_close, check_gradients, compare, few, fewer, many, ordered

reductions = st.sampled_from(["mean", "sum", "none"])


# 1. Class labels -----------------------------------------------------------------------------------------


@st.composite
def classifications(
    draw: Any, dims: int = 2, smallest: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, dict[str, Any]]:
    """scores (N, classes, d1, ...), labels (N, d1, ...), weight (classes,) or None, the other arguments."""
    rng = np.random.default_rng(draw(support.seeds))
    classes, N = draw(support.between(1, 5)), draw(support.between(smallest, 5))
    more = draw(st.lists(support.between(1, 3), max_size=dims))
    dtype = draw(support.dtypes)
    scores = ordered((3 * rng.standard_normal((N, classes, *more))).astype(dtype), draw(support.orders))
    labels = rng.integers(0, classes, (N, *more))
    ignored = draw(st.sampled_from([-100, -1, 0, classes]))
    if draw(st.booleans()) and ignored != 0:
        labels[rng.random(labels.shape) < 0.3] = ignored
    weight = draw(st.sampled_from([None, rng.random(classes).astype(dtype) + np.asarray(0.1, dtype)]))
    return scores, labels, weight, {"ignore_index": ignored, "reduction": draw(reductions)}


def ours(function: Any, labels: np.ndarray, weight: np.ndarray | None, options: dict[str, Any]) -> Any:
    w = None if weight is None else mg.Tensor(weight)
    return lambda x: function(x, mg.Tensor(labels), w, **options)


def theirs(
    torch: Any, name: str, labels: np.ndarray, weight: np.ndarray | None, options: dict[str, Any]
) -> Any:
    function = getattr(torch.nn.functional, name)
    w = None if weight is None else torch.tensor(weight)
    return lambda x: function(x, torch.tensor(labels), w, **options)


smoothings = st.sampled_from([0.0, 0.0, 0.1, 1.0])


@few
@given(classifications(dims=0, smallest=1), smoothings)
def test_cross_entropy_equals_the_sum_over_classes(case, smoothing):
    scores, labels, weight, options = case
    with np.errstate(invalid="ignore"):  # all labels ignored: the oracle may divide 0 by 0
        used = labels != options["ignore_index"]
        if not used.any() and options["reduction"] == "mean":
            return
        expected = oracles.cross_entropy(scores, labels, weight, **options, label_smoothing=smoothing)
    loss = ours(F.cross_entropy, labels, weight, {**options, "label_smoothing": smoothing})(mg.Tensor(scores))
    assert loss.dtype == scores.dtype
    assert_close(loss.numpy(), expected)


@pytest.mark.parity
@many
@given(case=classifications(), smoothing=smoothings)
def test_cross_entropy_equals_torch(torch, case, smoothing):
    scores, labels, weight, options = case
    options = {**options, "label_smoothing": smoothing}
    compare(
        torch,
        ours(F.cross_entropy, labels, weight, options),
        theirs(torch, "cross_entropy", labels, weight, options),
        [scores],
    )


@pytest.mark.parity
@few
@given(case=classifications())
def test_nll_loss_equals_torch(torch, case):
    scores, labels, weight, options = case
    compare(
        torch,
        ours(F.nll_loss, labels, weight, options),
        theirs(torch, "nll_loss", labels, weight, options),
        [scores],
    )


@pytest.mark.parity
@few
@given(case=classifications(), smoothing=smoothings)
def test_cross_entropy_with_probabilities_equals_torch(torch, case, smoothing):
    scores, _, weight, options = case
    options = {"reduction": options["reduction"], "label_smoothing": smoothing}
    target = np.random.default_rng(0).random(scores.shape).astype(scores.dtype)
    compare(
        torch,
        ours(F.cross_entropy, target, weight, options),
        theirs(torch, "cross_entropy", target, weight, options),
        [scores],
    )
    compare(  # the gradient of the target, too
        torch,
        lambda x, t: F.cross_entropy(x, t, **options),
        lambda x, t: torch.nn.functional.cross_entropy(x, t, **options),
        [scores, target],
    )


@few
@given(classifications(smallest=1), smoothings)
def test_cross_entropy_gradient(case, smoothing):
    scores, labels, weight, options = case
    if (labels == options["ignore_index"]).all():
        return
    weight = None if weight is None else weight.astype(np.float64)
    function = ours(F.cross_entropy, labels, weight, {**options, "label_smoothing": smoothing})
    check_gradients(function, [scores.astype(np.float64)])


@fewer
@given(classifications(smallest=1))
def test_nll_loss_gradient(case):
    scores, labels, weight, options = case
    if (labels == options["ignore_index"]).all():
        return
    weight = None if weight is None else weight.astype(np.float64)
    check_gradients(ours(F.nll_loss, labels, weight, options), [scores.astype(np.float64)])


def test_the_gradient_is_softmax_minus_truth_over_N():
    scores = np.random.default_rng(0).standard_normal((4, 3))
    x = mg.Tensor(scores, requires_grad=True)
    F.cross_entropy(x, mg.tensor([0, 2, 1, 1])).backward()
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(x.grad.numpy(), (p - np.eye(3)[[0, 2, 1, 1]]) / 4, atol=1e-15)


@pytest.mark.parity
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_one_example_without_a_batch(torch, reduction):
    scores, weight = np.array([0.5, -1.0, 2.0]), np.array([1.0, 2.0, 3.0])
    for options in ({"reduction": reduction}, {"reduction": reduction, "label_smoothing": 0.2}):
        for w in (None, weight):
            compare(
                torch,
                ours(F.cross_entropy, np.array(1), w, options),
                theirs(torch, "cross_entropy", np.array(1), w, options),
                [scores],
            )


def test_large_scores_do_not_overflow():
    x = mg.tensor([[1000.0, -1000.0], [-1000.0, 1000.0]], requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = F.cross_entropy(x, mg.tensor([0, 0]), reduction="none")
        loss.sum().backward()
    assert loss.tolist() == [0.0, 2000.0]
    assert x.grad.tolist() == [[0.0, 0.0], [-1.0, 1.0]]


@pytest.mark.parametrize("options", [{}, {"weight": mg.ones(3)}, {"label_smoothing": 0.1}])
def test_the_mean_over_nothing_is_nan_without_a_warning(options):
    for scores, labels in ((mg.zeros(0, 3), mg.zeros(0).long()), (mg.zeros(2, 3), mg.tensor([-100, -100]))):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert math.isnan(F.cross_entropy(scores, labels, **options).item())
            assert F.cross_entropy(scores, labels, **options, reduction="sum").item() == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.int64])
def test_labels_of_any_integer_type(dtype):
    labels = np.array([0, 2, 1], dtype=dtype)
    loss = F.cross_entropy(mg.Tensor(np.eye(3)), mg.Tensor(labels)).item()
    assert loss == pytest.approx(F.cross_entropy(mg.Tensor(np.eye(3)), mg.tensor([0, 2, 1])).item())


def test_one_hot():
    assert F.one_hot(mg.tensor([[0, 2], [1, 0]])).tolist() == [[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [1, 0, 0]]]
    assert F.one_hot(mg.tensor([1]), 4).tolist() == [[0, 1, 0, 0]]
    assert F.one_hot(mg.tensor([1])).dtype == mg.int64
    assert F.one_hot(mg.zeros(0).long(), 3).shape == (0, 3)
    with pytest.raises(LabelError, match="one_hot: label 4 at place 1 is out of range: with 4 classes"):
        F.one_hot(mg.tensor([1, 4]), 4)


# 2. Bad labels -------------------------------------------------------------------------------------------

LOSSES = pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])


@LOSSES
@pytest.mark.parametrize("label", [10, -1, 255, -101])
def test_decision_a_label_out_of_range_is_named_with_its_place(loss, label):
    labels = mg.tensor([3, 9, 0, label, 2, label])
    with pytest.raises(LabelError) as caught:
        loss(mg.zeros(6, 10), labels)
    assert str(caught.value) == (
        f"{loss.__name__}: label {label} at place 3 is out of range: with 10 classes labels go from 0 to 9"
    )
    assert isinstance(caught.value, IndexError)


@LOSSES
def test_an_ignored_label_is_no_error_but_another_one_is(loss):
    assert math.isfinite(loss(mg.zeros(2, 10), mg.tensor([-1, 3]), ignore_index=-1).item())
    with pytest.raises(LabelError, match="label -2 at place 1"):
        loss(mg.zeros(2, 10), mg.tensor([-1, -2]), ignore_index=-1)


def test_the_place_in_pictures_of_labels_is_counted_row_by_row():
    labels = np.zeros((2, 3, 4), dtype=np.int64)
    labels[1, 0, 2] = 7
    with pytest.raises(LabelError, match="label 7 at place 14 is out of range: with 5 classes"):
        F.cross_entropy(mg.zeros(2, 5, 3, 4), mg.Tensor(labels))


@LOSSES
@pytest.mark.parametrize(
    ("input", "target", "error", "message"),
    [
        (
            mg.zeros(4, 10),
            mg.zeros(4),
            DtypeError,
            r"labels must be integers \(int64\), got float32; use y.long\(\)",
        ),
        (mg.zeros(4, 10), mg.zeros(4) > 0, DtypeError, "labels must be integers .* got bool"),
        (mg.zeros(4, 10), mg.zeros(3).long(), ShapeError, r"input and target do not fit"),
        (mg.zeros(4, 10), mg.zeros(4, 1).long(), ShapeError, r"target +\(4, 1\) +N"),
        (mg.zeros(4, 10), mg.zeros(4, 10).long(), ShapeError, "one label for each example, not one-hot rows"),
        (mg.zeros(4, 10, 3), mg.zeros(4).long(), ShapeError, r"input +\(4, 10, 3\)"),
        (mg.zeros(10), mg.zeros(4).long(), ShapeError, r"input +\(10,\)"),
    ],
)
def test_targets_that_do_not_fit(loss, input, target, error, message):
    with pytest.raises(error, match=message) as caught:
        loss(input, target)
    assert str(caught.value).startswith(loss.__name__)


@LOSSES
def test_other_bad_arguments(loss):
    x, y = mg.zeros(4, 3), mg.zeros(4).long()
    with pytest.raises(ShapeError, match=rf"{loss.__name__}: weight has shape \(2,\), expected \(3,\)"):
        loss(x, y, mg.ones(2))
    with pytest.raises(DtypeError, match=f"{loss.__name__}: input is float32, weight is float64"):
        loss(x, y, mg.ones(3).double())
    with pytest.raises(ArgumentError, match="reduction must be 'mean', 'sum' or 'none', got 'average'"):
        loss(x, y, reduction="average")
    with pytest.raises(ShapeError, match=loss.__name__):
        loss(mg.zeros(()), mg.zeros(()).long())


@LOSSES
def test_labels_are_not_changed_before_backward(loss):
    x, y = mg.randn(4, 3, requires_grad=True), mg.zeros(4).long()
    total = loss(x, y)
    y[0] = 2
    with pytest.raises(GradientError, match="needs a value that was changed in place"):
        total.backward()


@LOSSES
def test_a_second_backward(loss):
    x, y = mg.randn(4, 3, requires_grad=True), mg.tensor([0, 2, 1, 1])
    total = loss(x, y)
    total.backward(retain_graph=True)
    once = x.grad.numpy().copy()
    total.backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * once, rtol=1e-6)


def test_bad_arguments_of_cross_entropy():
    x, p = mg.zeros(4, 3), mg.ones(4, 3)
    with pytest.raises(ArgumentError, match=r"label_smoothing must be between 0 and 1, got 1\.5"):
        F.cross_entropy(x, mg.zeros(4).long(), label_smoothing=1.5)
    with pytest.raises(ArgumentError, match="ignore_index needs labels, not probabilities"):
        F.cross_entropy(x, p, ignore_index=1)
    with pytest.raises(ShapeError, match=r"cross_entropy: weight has shape \(1,\), expected \(3,\)"):
        F.cross_entropy(x, p, mg.ones(1))
