"""Settings and the published editions of the recipe."""

import math
from types import SimpleNamespace

import pytest

import minigrad as mg
from minigrad import backend, nn
from minigrad.errors import ArgumentError, DataError
from minigrad.training import EDITIONS, Settings
from minigrad.training.editions import edition
from minigrad.training.settings import build_model
from minigrad.training.setup import device_of_settings


@pytest.mark.parametrize(
    ("name", "pool", "lr", "plain_lr", "batch_size", "epochs"),
    [
        ("zh1", "max", 1.0, 0.9, 256, 5),
        ("0.16", "max", 1.0, 0.9, 256, 10),
        ("0.17", "avg", 1.0, 0.9, 256, 10),
        ("1.0", "avg", 0.1, 0.1, 128, 10),
    ],
)
def test_the_published_editions(name, pool, lr, plain_lr, batch_size, epochs):
    for model, rate in (("lenet_bn", lr), ("lenet_bn_scratch", lr), ("lenet", plain_lr)):
        settings = Settings(model, edition=name).resolved()
        assert (settings.lr, settings.batch_size, settings.epochs) == (rate, batch_size, epochs)
        kinds = {type(layer) for layer in build_model(settings)}
        assert (nn.MaxPool2d in kinds, nn.AvgPool2d in kinds) == (pool == "max", pool == "avg")
    layer = build_model(Settings("lenet_bn", edition=name))[1]
    assert (layer.momentum, layer.eps) == (0.1, 1e-5)
    scratch = build_model(Settings("lenet_bn_scratch", edition=name))[1]
    assert (scratch.momentum, scratch.eps) == (0.9, 1e-5)


def test_both_ways_to_write_momentum_are_one():
    assert {recipe.bn_momentum for recipe in EDITIONS.values()} == {0.1}
    assert len({recipe.bn_momentum_as_printed for recipe in EDITIONS.values()}) == 2


def test_the_default_is_the_tutorials_run():
    settings = Settings().resolved()
    assert (settings.model, settings.edition, settings.optimizer, settings.seed) == (
        "lenet_bn",
        "0.16",
        "sgd",
        0,
    )


def test_models_outside_the_editions_have_their_own_rate():
    assert Settings("mlp", edition="1.0").resolved().lr == 0.1
    assert Settings("mlp_bn", edition="1.0").resolved().lr == 0.5


def test_what_is_chosen_goes_before_the_edition():
    settings = Settings("lenet", edition="zh1", epochs=2, lr=0.5, batch_size=7).resolved()
    assert (settings.epochs, settings.lr, settings.batch_size) == (2, 0.5, 7)
    assert Settings(optimizer="adam").resolved().lr == 0.001
    assert Settings(optimizer="adam", lr=0.2).resolved().lr == 0.2


def test_xavier_weights_from_the_seed():
    mg.manual_seed(5)
    first = build_model(Settings("lenet"))
    bound = math.sqrt(6 / (25 + 6 * 25))
    largest = abs(first[0].weight.detach().numpy()).max()
    assert 0.8 * bound < largest <= bound
    mg.manual_seed(5)
    assert (
        build_model(Settings("lenet"))[0].weight.detach().numpy() == first[0].weight.detach().numpy()
    ).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "lenet_bm"}, "unknown model 'lenet_bm'.*did you mean 'lenet_bn'"),
        ({"edition": "2"}, "unknown edition '2': use zh1, 0.16, 0.17, 1.0"),
        ({"optimizer": "lion"}, "unknown optimizer 'lion': use sgd, adam"),
        ({"dataset": "cifar"}, "unknown data set 'cifar': use auto, fashion_mnist, mnist, garments"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"epochs": 1.5}, "epochs must be a whole number of at least 1, got 1.5"),
        ({"batch_size": -1}, "batch_size must be a whole number of at least 1, got -1"),
        ({"threads": 0}, "threads must be a whole number of at least 1, got 0"),
        ({"limit": 0}, "limit must be a whole number of at least 1, got 0"),
        ({"limit": 60001}, "limit must be at most 60000, got 60001"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"seed": True}, "seed must be a whole number of at least 0, got True"),
        ({"lr": 0.0}, "lr must be a number above 0, got 0.0"),
        ({"lr": math.nan}, "lr must be a number above 0, got nan"),
        ({"lr": math.inf}, "lr must be a number above 0, got inf"),
        ({"lr": "1"}, "lr must be a number above 0, got '1'"),
    ],
)
def test_bad_values(values, message):
    with pytest.raises(ArgumentError, match=message):
        Settings(**values).resolved()


def test_from_dict():
    assert Settings.from_dict({"model": "mlp", "seed": 3}) == Settings("mlp", seed=3)
    with pytest.raises(DataError, match="unknown setting 'colour'; was this run made by another version"):
        Settings.from_dict({"colour": 1})


def test_edition_in_words():
    assert edition("1.0").describe() == (
        "average pooling, learning rate 0.1, batch 128, 10 epochs (English edition 1.0)"
    )


@pytest.mark.parametrize(("name", "index"), [("auto", 0), ("cuda:1", 1)])
def test_the_gpu_of_a_run_becomes_the_current_one(name, index, monkeypatch):
    """CuPy calculates on the current one, wherever the arrays are."""
    used = []

    def device(index):
        return SimpleNamespace(use=lambda: used.append(index))

    monkeypatch.setattr(backend.cuda, "load", lambda: SimpleNamespace(cuda=SimpleNamespace(Device=device)))
    monkeypatch.setattr(backend.cuda, "is_available", lambda: True)
    monkeypatch.setattr(backend, "device", lambda spec: backend.Device("cuda", int(spec[5:] or 0)))
    assert device_of_settings(Settings(device=name)).index == index
    assert used == [index]
