"""Learning-rate plans against their formulas and against PyTorch."""

import json
import math

import pytest

import minigrad as mg
from minigrad import optim
from minigrad.optim import lr_scheduler as mine

EPOCHS = 30


def optimizer_of(*rates, module=optim, tensor=mg.zeros):
    return module.SGD([{"params": [tensor(1)], "lr": lr} for lr in rates])


def rates_of(make, *start, schedulers=mine, **other):
    """The learning rates of all groups, epoch by epoch."""
    optimizer = optimizer_of(*start, **other)
    scheduler = make(schedulers, optimizer)
    result = []
    for _ in range(EPOCHS):
        assert scheduler.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
        result.append(scheduler.get_last_lr())
        if hasattr(optimizer.step, "__wrapped__"):
            optimizer.step()  # PyTorch complains without it
        scheduler.step()
    return result


# What the schedulers' documentation says, as functions of the epoch, for a learning rate of 1.
PLANS = {
    "lambda": (lambda m, o: m.LambdaLR(o, lambda t: 0.9**t), lambda t: 0.9**t),
    "step": (lambda m, o: m.StepLR(o, 4, gamma=0.5), lambda t: 0.5 ** (t // 4)),
    "multistep": (
        lambda m, o: m.MultiStepLR(o, [20, 3, 3, 8], gamma=0.5),
        lambda t: 0.5 ** sum(t >= s for s in (3, 3, 8, 20)),
    ),
    "constant": (lambda m, o: m.ConstantLR(o, 0.25, 7), lambda t: 0.25 if t < 7 else 1.0),
    "linear": (lambda m, o: m.LinearLR(o, 0.2, 0.9, 10), lambda t: 0.2 + 0.7 * min(t, 10) / 10),
    "linear to zero": (lambda m, o: m.LinearLR(o, 1.0, 0.0, 10), lambda t: max(0.0, 1 - t / 10)),
    "exponential": (lambda m, o: m.ExponentialLR(o, 0.8), lambda t: 0.8**t),
    "polynomial": (lambda m, o: m.PolynomialLR(o, 12, 2.0), lambda t: (1 - min(t, 12) / 12) ** 2),
    "cosine": (lambda m, o: m.CosineAnnealingLR(o, 10), lambda t: (1 + math.cos(math.pi * t / 10)) / 2),
    "warm-up, then cosine": (
        lambda m, o: m.SequentialLR(o, [m.LinearLR(o, 0.1, total_iters=5), m.CosineAnnealingLR(o, 20)], [5]),
        lambda t: 0.1 + 0.9 * t / 5 if t < 5 else (1 + math.cos(math.pi * (t - 5) / 20)) / 2,
    ),
    "three in a row": (
        lambda m, o: m.SequentialLR(
            o, [m.ConstantLR(o, 0.5, 2), m.StepLR(o, 2, 0.5), m.ExponentialLR(o, 0.9)], [4, 9]
        ),
        lambda t: (0.5 if t < 2 else 1.0) if t < 4 else 0.5 ** ((t - 4) // 2) if t < 9 else 0.9 ** (t - 9),
    ),
}
WITH_FLOOR = lambda m, o: m.CosineAnnealingLR(o, 7, eta_min=0.05)  # noqa: E731


@pytest.mark.parametrize("name", PLANS)
def test_formula(name):
    make, formula = PLANS[name]
    rates = rates_of(make, 1.0, 0.5)
    for t, (one, half) in enumerate(rates):
        assert one == pytest.approx(formula(t), rel=1e-12, abs=1e-12)
        assert half == pytest.approx(0.5 * formula(t), rel=1e-12, abs=1e-12)


@pytest.mark.parity
@pytest.mark.parametrize("name", [*PLANS, "cosine with a floor"])
def test_like_pytorch(name):
    torch = pytest.importorskip("torch")
    make = PLANS[name][0] if name in PLANS else WITH_FLOOR
    theirs = rates_of(
        make, 1.0, 0.3, schedulers=torch.optim.lr_scheduler, module=torch.optim, tensor=torch.zeros
    )
    for t, (a, b) in enumerate(zip(rates_of(make, 1.0, 0.3), theirs, strict=True)):
        assert a == pytest.approx(b, rel=1e-9, abs=1e-12), t


@pytest.mark.parity
def test_two_at_once_like_pytorch():
    """Two schedulers on one optimizer multiply, and a change by hand is kept."""
    torch = pytest.importorskip("torch")

    def rates(schedulers, **other):
        optimizer = optimizer_of(1.0, **other)
        both = [schedulers.StepLR(optimizer, 3, 0.5), schedulers.ExponentialLR(optimizer, 0.9)]
        result = []
        for t in range(EPOCHS):
            result.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            for scheduler in both:
                scheduler.step()
            if t == 10:
                optimizer.param_groups[0]["lr"] *= 7
        return result

    theirs = rates(torch.optim.lr_scheduler, module=torch.optim, tensor=torch.zeros)
    assert rates(mine) == pytest.approx(theirs, rel=1e-10)
    assert theirs[12] > theirs[9]  # the change by hand shows


def test_two_at_once():
    optimizer = optimizer_of(1.0)
    both = [mine.LinearLR(optimizer, 0.5, total_iters=2), mine.StepLR(optimizer, 3, 0.1)]
    rates = []
    for _ in range(6):
        rates += [optimizer.param_groups[0]["lr"]]
        for scheduler in both:
            scheduler.step()
    assert rates == pytest.approx([0.5, 0.75, 1.0, 0.1, 0.1, 0.1])


@pytest.mark.parametrize("name", PLANS)
def test_going_on_from_a_saved_state(name):
    """Through JSON, as a checkpoint does it."""
    make, _ = PLANS[name]
    whole = rates_of(make, 1.0, 0.5)
    optimizer = optimizer_of(1.0, 0.5)
    scheduler = make(mine, optimizer)
    for _ in range(12):
        scheduler.step()
    saved = json.loads(json.dumps(scheduler.state_dict()))

    again = optimizer_of(1.0, 0.5)
    resumed = make(mine, again)
    again.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(saved)
    rates = []
    for _ in range(12, EPOCHS):
        rates.append(resumed.get_last_lr())
        resumed.step()
    assert rates == whole[12:]


@pytest.mark.parametrize("name", ["step", "cosine", "linear", "exponential"])
def test_going_on_from_last_epoch(name):
    """With the optimizer's state and the number of the last epoch, as PyTorch's users do it."""
    plans = {
        "step": lambda o, last: mine.StepLR(o, 4, 0.5, last_epoch=last),
        "cosine": lambda o, last: mine.CosineAnnealingLR(o, 10, last_epoch=last),
        "linear": lambda o, last: mine.LinearLR(o, 0.2, total_iters=10, last_epoch=last),
        "exponential": lambda o, last: mine.ExponentialLR(o, 0.9, last_epoch=last),
    }
    optimizer = optimizer_of(1.0)
    scheduler = plans[name](optimizer, -1)
    for _ in range(5):
        scheduler.step()
    again = optimizer_of(1.0)
    again.load_state_dict(optimizer.state_dict())
    resumed = plans[name](again, scheduler.last_epoch)
    scheduler.step()
    assert resumed.last_epoch == 6
    assert resumed.get_last_lr() == pytest.approx(scheduler.get_last_lr(), rel=1e-12)


# A figure that falls, stays, rises, falls again.
FIGURES = [
    3.0,
    2.0,
    2.0,
    2.1,
    1.9995,
    2.2,
    2.2,
    2.2,
    1.0,
    1.05,
    1.04,
    1.03,
    1.02,
    1.01,
    1.0,
    1.0,
    1.0,
    1.0,
    0.5,
]
PLATEAU_OPTIONS = [
    {"patience": 1},
    {"patience": 0, "threshold": 0.01},
    {"patience": 1, "threshold": 0.3, "threshold_mode": "abs"},
    {"patience": 1, "cooldown": 3},
    {"patience": 0, "min_lr": 0.2, "factor": 0.5},
    {"patience": 0, "min_lr": [0.2, 0.01]},
    {"patience": 0, "eps": 0.05},
    {"mode": "max", "patience": 1},
    {"mode": "max", "patience": 0, "threshold": 0.5, "threshold_mode": "abs"},
]


@pytest.mark.parity
@pytest.mark.parametrize("options", PLATEAU_OPTIONS, ids=str)
def test_plateau_like_pytorch(options):
    torch = pytest.importorskip("torch")
    ours, theirs = optimizer_of(1.0, 0.3), optimizer_of(1.0, 0.3, module=torch.optim, tensor=torch.zeros)
    a = mine.ReduceLROnPlateau(ours, **options)
    b = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    for figure in FIGURES:
        a.step(figure)
        b.step(figure)
        assert a.get_last_lr() == pytest.approx(b.get_last_lr(), rel=1e-12)
    assert a.get_last_lr() != [1.0, 0.3]  # it did fall


def test_plateau():
    optimizer = optimizer_of(1.0)
    scheduler = mine.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, cooldown=1)
    rates = []
    for loss in (3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, mg.tensor(1.0), float("nan"), 1.0):
        scheduler.step(loss)
        rates += scheduler.get_last_lr()
    # Epochs 3 and 4 are bad: reduce. 5 cools down. 6 and 7 are bad: reduce. 8 is better. 9 and 10 are bad.
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]


def test_plateau_goes_on_from_a_saved_state():
    def run(scheduler, figures):
        return [(scheduler.step(f), scheduler.get_last_lr())[1] for f in figures]

    optimizer = optimizer_of(1.0)
    scheduler = mine.ReduceLROnPlateau(optimizer, patience=1, cooldown=1)
    run(scheduler, FIGURES[:6])
    saved, saved_optimizer = json.loads(json.dumps(scheduler.state_dict())), optimizer.state_dict()
    expected = run(scheduler, FIGURES[6:])
    again = optimizer_of(1.0)
    again.load_state_dict(saved_optimizer)
    resumed = mine.ReduceLROnPlateau(again, patience=7)
    resumed.load_state_dict(saved)
    assert run(resumed, FIGURES[6:]) == expected


O = optimizer_of(1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mine.StepLR("sgd", 3), "StepLR: expected an optimizer, got str"),
        (lambda: mine.ReduceLROnPlateau(None), "ReduceLROnPlateau: expected an optimizer, got NoneType"),
        (lambda: mine.StepLR(O, 0), "StepLR: step_size must be a whole number of at least 1, got 0"),
        (lambda: mine.StepLR(O, 2.5), "step_size must be a whole number of at least 1, got 2.5"),
        (lambda: mine.CosineAnnealingLR(O, 0), "T_max must be a whole number of at least 1, got 0"),
        (lambda: mine.LinearLR(O, 0.0), "LinearLR: start_factor must be above 0 and at most 1, got 0.0"),
        (lambda: mine.LinearLR(O, end_factor=2), "LinearLR: end_factor must be between 0 and 1, got 2"),
        (lambda: mine.ConstantLR(O, 1.5), "ConstantLR: factor must be between 0 and 1, got 1.5"),
        (lambda: mine.LambdaLR(O, [math.sqrt, math.sqrt]), "LambdaLR: 2 functions for 1 parameter groups"),
        (lambda: mine.ExponentialLR(optimizer_of(1.0), 0.9, last_epoch=3), "group 0 has no 'initial_lr'"),
        (lambda: mine.SequentialLR(O, [mine.StepLR(O, 1)], [3]), "one scheduler more than milestones"),
        (
            lambda: mine.SequentialLR(O, [mine.StepLR(optimizer_of(1.0), 1)], []),
            "scheduler 0 belongs to another optimizer",
        ),
        (
            lambda: mine.SequentialLR(O, [mine.ReduceLROnPlateau(O)], []),
            "cannot run scheduler 0, a ReduceLROnPlateau",
        ),
        (lambda: mine.ReduceLROnPlateau(O, factor=1.0), "factor must be below 1, got 1.0"),
        (lambda: mine.ReduceLROnPlateau(O, "smallest"), "mode must be 'min' or 'max', got 'smallest'"),
        (lambda: mine.ReduceLROnPlateau(O, threshold_mode="x"), "threshold_mode must be 'rel' or 'abs'"),
        (lambda: mine.ReduceLROnPlateau(O, min_lr=[0.1, 0.2]), "2 values of min_lr for 1 parameter groups"),
        (
            lambda: mine.StepLR(O, 3).load_state_dict(mine.ExponentialLR(O, 0.9).state_dict()),
            "StepLR: the saved state is that of another scheduler",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(mg.errors.MinigradError, match=message):
        make()


def test_a_group_added_later():
    optimizer = optimizer_of(1.0)
    scheduler = mine.StepLR(optimizer, 1)
    optimizer.add_param_group({"params": [mg.zeros(1)]})
    with pytest.raises(mg.errors.ArgumentError, match="had 1 groups, now it has 2; make the scheduler after"):
        scheduler.step()


def test_a_plan_without_a_formula():
    with pytest.raises(TypeError, match="Nothing needs a method get_lr"):
        type("Nothing", (mine.LRScheduler,), {})(optimizer_of(1.0))


def test_plans_live_where_pytorch_has_them():
    """The tutorial's training loop looks at `scheduler.__module__`."""
    assert mine.MultiStepLR.__module__ == mine.__name__ == "minigrad.optim.lr_scheduler"
