"""Sequential and ModuleList: order, names, indices, slices, and what they refuse."""

from collections import OrderedDict

import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import ArgumentError


def three() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 2))


def test_runs_in_order():
    net = three()
    x = mg.ones(5, 4)
    assert net(x).tolist() == net[2](net[1](net[0](x))).tolist()
    assert nn.Sequential()(x) is x


def test_indices_and_length():
    net = three()
    assert len(net) == 3
    assert net[-1] is net[2]
    assert [type(layer).__name__ for layer in net] == ["Linear", "Sigmoid", "Linear"]
    with pytest.raises(IndexError, match="Sequential has 3 modules, there is no number 3"):
        net[3]
    with pytest.raises(IndexError, match="there is no number -4"):
        net[-4]
    with pytest.raises(ArgumentError, match="Sequential index must be a whole number, got 'a'"):
        net["a"]


@pytest.mark.parity
def test_slices_keep_their_names_as_in_torch(torch):
    for part in (slice(1, None), slice(None, 2), slice(None, None, 2), slice(-1, None), slice(3, None)):
        ours = three()[part]
        theirs = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Sigmoid(), torch.nn.Linear(3, 2))[part]
        assert type(ours) is nn.Sequential
        assert list(ours.state_dict()) == list(theirs.state_dict())
        assert repr(ours) == repr(theirs)


def test_slices_share_their_modules():
    net = three()
    head = net[1:]
    assert head[1] is net[2]
    assert head(mg.ones(1, 3)).shape == (1, 2)
    head.append(nn.ReLU())  # the names 1 and 2 are taken
    assert [name for name, _ in head.named_children()] == ["1", "2", "3"]
    assert len(net) == 3


def test_names_from_an_ordered_dict():
    net = nn.Sequential(OrderedDict([("hidden", nn.Linear(2, 2)), ("out", nn.Linear(2, 1))]))
    assert list(net.state_dict()) == ["hidden.weight", "hidden.bias", "out.weight", "out.bias"]
    assert net.hidden is net[0]
    assert net(mg.ones(1, 2)).shape == (1, 1)


@pytest.mark.parametrize("name", ["forward", "training", "a.b", ""])
def test_names_that_would_hide_something(name):
    with pytest.raises(ArgumentError, match=f"Sequential: a module cannot have the name {name!r}"):
        nn.Sequential(OrderedDict([(name, nn.ReLU())]))


def test_a_class_instead_of_an_object():
    with pytest.raises(
        ArgumentError, match=r"Sequential: item 1 must be a Module, got the class ReLU; write ReLU\(...\)"
    ):
        nn.Sequential(nn.Flatten(), nn.ReLU)
    with pytest.raises(ArgumentError, match=r"ModuleList: item 0 must be a Module, got the class Linear"):
        nn.ModuleList([nn.Linear])


def test_a_function_instead_of_a_module():
    with pytest.raises(ArgumentError, match="Sequential: item 0 must be a Module, got function"):
        nn.Sequential(lambda x: x)
    with pytest.raises(ArgumentError, match="item 0 must be a Module, got list"):
        nn.Sequential([nn.ReLU()])


def test_append_and_replace():
    net = nn.Sequential()
    assert net.append(nn.Linear(2, 2)) is net
    net.append(nn.ReLU())
    net[1] = nn.Tanh()
    net[-2] = nn.Linear(2, 3)
    assert list(net.state_dict()) == ["0.weight", "0.bias"]
    assert net(mg.zeros(1, 2)).shape == (1, 3)
    with pytest.raises(ArgumentError, match="Sequential: item 0 must be a Module, got int"):
        net[0] = 3
    with pytest.raises(IndexError, match="there is no number 2"):
        net[2] = nn.ReLU()
    assert len(net) == 2


def test_one_layer_twice():
    layer = nn.Linear(2, 2)
    net = nn.Sequential(layer, nn.ReLU(), layer)
    assert len(net) == 3
    assert net(mg.ones(1, 2)).tolist() == layer(layer(mg.ones(1, 2)).maximum(0.0)).tolist()


def test_module_list():
    blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
    assert blocks.append(nn.ReLU()) is blocks
    assert blocks.extend([nn.Tanh()]) is blocks
    assert len(blocks) == 4
    assert [type(b).__name__ for b in blocks] == ["Linear", "Linear", "ReLU", "Tanh"]
    assert list(blocks.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert type(blocks[1:3]) is nn.ModuleList
    assert blocks[1:3][0] is blocks[1]
    assert list(blocks[1:2].state_dict()) == ["0.weight", "0.bias"]  # counted anew, as in PyTorch
    with pytest.raises(NotImplementedError, match="ModuleList has no forward method"):
        blocks(mg.ones(1))
