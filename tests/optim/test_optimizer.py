"""What all optimizers share: groups, gradients, closures, saving and loading."""

import copy

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim

CLASSES = {
    "SGD": lambda params, **options: optim.SGD(params, lr=0.1, momentum=0.9, **options),
    "Adam": lambda params, **options: optim.Adam(params, lr=0.1, amsgrad=True, **options),
    "AdamW": lambda params, **options: optim.AdamW(params, lr=0.1, **options),
}


def parameter(*values):
    return mg.tensor(list(values), dtype=mg.float64, requires_grad=True)


def train(optimizer, params, steps, seed=0):
    """Steps with random gradients."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        for p in params:
            p.grad = mg.tensor(rng.normal(size=p.shape))
        optimizer.step()


# 1. Steps ------------------------------------------------------------------------------------------------


def test_minimises_a_function():
    """Every optimizer finds the minimum of (w - 3)^2."""
    for name, make in CLASSES.items():
        w = parameter(0.0)
        optimizer = make([w])
        for _ in range(300):
            optimizer.zero_grad()
            ((w - 3) ** 2).sum().backward()
            optimizer.step()
        assert w.item() == pytest.approx(3, abs=0.05), name


@pytest.mark.parametrize("name", CLASSES)
def test_a_parameter_without_a_gradient_stays(name):
    used, unused, frozen = parameter(1.0), parameter(2.0), mg.ones(1)
    optimizer = CLASSES[name]([used, unused, frozen], weight_decay=0.5)
    used.grad = mg.tensor([1.0], dtype=mg.float64)
    optimizer.step()
    assert used.item() != 1.0
    assert (unused.item(), frozen.item()) == (2.0, 1.0)
    assert list(optimizer.state) == [used]


def test_the_update_is_in_place():
    w = parameter(1.0, 2.0)
    memory = w.array
    w.grad = mg.tensor([1.0, 1.0], dtype=mg.float64)
    optim.SGD([w], lr=0.5).step()
    assert w.array is memory
    assert memory.tolist() == [0.5, 1.5]
    assert w.is_leaf
    assert w.requires_grad


def test_a_graph_notices_the_update():
    """Forward, step, backward: the gradient would be that of other weights."""
    w = parameter(2.0)
    y = (w * w).sum()
    w.grad = mg.tensor([1.0], dtype=mg.float64)
    optim.SGD([w], lr=0.5).step()
    with pytest.raises(mg.errors.GradientError, match="changed in place"):
        y.backward()


def test_any_memory_order():
    """Convolution hands out gradients in another memory order than the weights'."""
    rng = np.random.default_rng(0)
    start, gradient = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 4))
    for name, make in CLASSES.items():
        plain, turned = mg.tensor(start, requires_grad=True), mg.Tensor(np.asfortranarray(start))
        plain.grad = mg.tensor(gradient)
        turned.grad = mg.Tensor(np.asfortranarray(gradient))
        make([plain]).step()
        make([turned]).step()
        np.testing.assert_array_equal(plain.detach().numpy(), turned.numpy(), err_msg=name)


def test_zero_grad():
    w, unused = parameter(1.0), parameter(1.0)
    optimizer = optim.SGD([w, unused])
    w.grad = mg.tensor([3.0], dtype=mg.float64)
    memory = w.grad.array
    optimizer.zero_grad(set_to_none=False)
    assert w.grad.tolist() == [0.0]
    assert w.grad.array is memory
    assert unused.grad is None
    optimizer.zero_grad()
    assert w.grad is None


def test_closure():
    w = parameter(3.0)
    optimizer = optim.SGD([w], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with mg.no_grad():  # the closure may still build its graph
        assert optimizer.step(closure).item() == 9.0
    assert w.item() == 0.0
    assert optimizer.step() is None


def test_a_gradient_of_another_shape():
    w = parameter(1.0, 2.0)
    w.grad = mg.ones(1, dtype=mg.float64)
    with pytest.raises(mg.errors.ShapeError, match=r"SGD: parameter 0 has shape \(2,\), its gradient \(1,\)"):
        optim.SGD([w]).step()


def test_a_subclass_without_update():
    with pytest.raises(TypeError, match="Empty needs a method _update"):
        type("Empty", (optim.Optimizer,), {})([parameter(1.0)], {}).step()


# 2. Groups -----------------------------------------------------------------------------------------------


def test_groups_have_their_own_options():
    a, b = parameter(1.0), parameter(1.0)
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5}], lr=0.25)
    optimizer.add_param_group({"params": (c for c in [parameter(1.0)]), "weight_decay": 1.0})
    (c,) = optimizer.param_groups[2]["params"]
    for p in (a, b, c):
        p.grad = mg.ones(1, dtype=mg.float64)
    optimizer.step()
    assert [a.item(), b.item(), c.item()] == [0.75, 0.5, 0.5]


def test_a_generator_of_parameters():
    net = mg.nn.Linear(3, 2)
    assert optim.SGD(net.parameters()).param_groups[0]["params"] == [net.weight, net.bias]


def test_the_callers_dict_is_left_alone():
    group = {"params": [parameter(1.0)]}
    optim.SGD([group], lr=0.1)
    assert list(group) == ["params"]


def test_repr():
    text = repr(optim.Adam([parameter(1.0)], lr=0.1))
    assert text.splitlines() == [
        "Adam (",
        "Parameter Group 0",
        "    amsgrad: False",
        "    betas: (0.9, 0.999)",
        "    eps: 1e-08",
        "    lr: 0.1",
        "    maximize: False",
        "    weight_decay: 0",
        ")",
    ]


W = parameter(1.0)


@pytest.mark.parametrize(
    ("params", "kind", "message"),
    [
        ([], ValueError, "SGD: got an empty parameter list"),
        (iter([]), ValueError, "SGD: got an empty parameter list"),
        (W, TypeError, r"params must be a list of tensors, got one tensor; write \[tensor\]"),
        (0.1, TypeError, "params must be a list of tensors or dicts, got float"),
        ({"0.weight": W}, TypeError, "got dict; pass model.parameters()"),
        ({W}, TypeError, "params is a set, whose order changes from run to run; use a list"),
        ([{"params": {W}}], TypeError, "params is a set"),
        ([W, 1.0], TypeError, "parameter 1 is no tensor but float"),
        ([("weight", W)], TypeError, "parameter 0 is a pair"),
        ([W * 2], ValueError, "parameter 0 is the result of Mul and not a leaf"),
        ([W, W], ValueError, r"parameter 1 of shape \(1,\) is given twice"),
        ([{"params": [W]}, {"params": [W]}], ValueError, "parameter 0 of shape .* is given twice"),
        ([{"params": [W]}, [W]], TypeError, "a group must be a dict, got list"),
        ([{"parameters": [W]}], ValueError, "a group needs an entry 'params', got .'parameters'."),
        ([{"params": [W], "learning_rate": 1}], ValueError, "unknown option 'learning_rate' in a parameter"),
    ],
)
def test_bad_parameters(params, kind, message):
    with pytest.raises(mg.errors.MinigradError, match=message) as caught:
        optim.SGD(params)
    assert isinstance(caught.value, kind)


def test_an_option_without_a_default():
    class Custom(optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"rate": optim.optimizer.required})

    Custom([{"params": [W], "rate": 1}])
    with pytest.raises(mg.errors.ArgumentError, match="Custom: rate has no default, give it for each group"):
        Custom([W])


# 3. Saving and loading -----------------------------------------------------------------------------------


def make(name):
    params = [parameter(1.0, 2.0), parameter(3.0)]
    groups = [{"params": params[:1]}, {"params": params[1:], "weight_decay": 0.1}]
    return CLASSES[name](groups), params


@pytest.mark.parametrize("name", CLASSES)
def test_going_on_from_a_saved_state(name):
    """Ten steps in one go give the same bits as five, save, load into a new optimizer, five."""
    optimizer, params = make(name)
    train(optimizer, params, 5, seed=1)
    state = copy.deepcopy(optimizer.state_dict())
    weights = [p.tolist() for p in params]
    train(optimizer, params, 5, seed=2)

    again, others = make(name)
    for p, w in zip(others, weights, strict=True):
        p.data = mg.tensor(np.array(w))
    again.load_state_dict(state)
    train(again, others, 5, seed=2)
    assert [p.tolist() for p in others] == [p.tolist() for p in params]


def test_state_dict_names_parameters_by_number():
    optimizer, params = make("SGD")
    params[1].grad = mg.tensor([5.0], dtype=mg.float64)
    optimizer.step()
    state = optimizer.state_dict()
    assert [group["params"] for group in state["param_groups"]] == [[0], [1]]
    assert [group["weight_decay"] for group in state["param_groups"]] == [0, 0.1]
    assert list(state["state"]) == [1]
    assert state["state"][1]["momentum_buffer"].tolist() == [5.0 + 0.1 * 3.0]


def test_loading_copies():
    optimizer, params = make("SGD")
    train(optimizer, params, 1)
    state = optimizer.state_dict()
    again, others = make("SGD")
    again.load_state_dict(state)
    before = state["state"][0]["momentum_buffer"].tolist()
    train(again, others, 1, seed=5)
    assert state["state"][0]["momentum_buffer"].tolist() == before


def test_loading_follows_the_dtype_of_the_parameters():
    optimizer, params = make("Adam")
    train(optimizer, params, 1)
    small = [mg.zeros(2, requires_grad=True), mg.zeros(1, requires_grad=True)]
    again = CLASSES["Adam"]([{"params": small[:1]}, {"params": small[1:]}])
    again.load_state_dict(optimizer.state_dict())
    assert again.state[small[0]]["exp_avg"].dtype == mg.float32
    assert again.state[small[0]]["step"] == 1


def test_states_that_do_not_fit():
    optimizer, params = make("SGD")
    train(optimizer, params, 1)
    good = optimizer.state_dict()
    before = copy.deepcopy(good)

    def refused(message, state, into=optimizer):
        with pytest.raises(mg.errors.ArgumentError, match=message):
            into.load_state_dict(state)

    refused("not an optimizer's state_dict", {"0.weight": mg.zeros(1)})
    refused("not an optimizer's state_dict", {"state": {}, "param_groups": [{"lr": 1}]})
    refused(r"has groups of \[2\] parameters, this optimizer of \[1, 1\]", optim.SGD(params).state_dict())
    refused("has no amsgrad, betas, eps; it is that of another optimizer", good, make("Adam")[0])
    wrong = copy.deepcopy(good)
    wrong["state"][1]["momentum_buffer"] = np.zeros(7)
    refused(r"momentum_buffer of parameter 1 has shape \(7,\), the parameter \(1,\)", wrong)
    wrong = copy.deepcopy(good)
    wrong["param_groups"][1]["lr"] = -1
    refused("lr must be a number of at least 0, got -1", wrong)
    assert str(optimizer.state_dict()) == str(before)  # nothing was changed


def test_a_state_on_another_dtype_is_noticed():
    """The model was converted after the optimizer had begun to remember."""
    w = mg.ones(1, requires_grad=True)
    optimizer = optim.SGD([w], momentum=0.9)
    w.grad = mg.ones(1)
    optimizer.step()
    w.array = w.array.astype(mg.float64)
    w.grad = mg.ones(1, dtype=mg.float64)
    with pytest.raises(
        mg.errors.DeviceError, match="momentum_buffer is float32 on cpu, its parameter is float64"
    ):
        optimizer.step()


@pytest.mark.parity
@pytest.mark.parametrize("name", CLASSES)
def test_a_state_of_pytorch(name):
    """Five steps there, five here, as ten steps there."""
    torch = pytest.importorskip("torch")
    options = {"SGD": {"momentum": 0.9}, "Adam": {"amsgrad": True}, "AdamW": {}}[name]
    theirs = [torch.tensor([1.0, 2.0], dtype=torch.float64), torch.tensor([3.0], dtype=torch.float64)]
    optimizer = getattr(torch.optim, name)(theirs, lr=0.1, **options)
    rng = np.random.default_rng(0)
    gradients = [[rng.normal(size=2), rng.normal(size=1)] for _ in range(10)]
    mine = []
    for i, step in enumerate(gradients):
        if i == 5:
            mine = [mg.tensor(p.numpy().copy(), requires_grad=True) for p in theirs]
            again = CLASSES[name](mine)
            again.load_state_dict(optimizer.state_dict())
        for p, g in zip(theirs, step, strict=True):
            p.grad = torch.tensor(g)
        optimizer.step()
        if i >= 5:
            for p, g in zip(mine, step, strict=True):
                p.grad = mg.tensor(g)
            again.step()
    for p, q in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.numpy(), rtol=1e-12)
