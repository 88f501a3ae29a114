"""no_grad, enable_grad and set_grad_enabled: nested, as decorators, with exceptions, in threads."""

from __future__ import annotations

import threading

import pytest

import minigrad as mg


def remembers() -> bool:
    """Whether operations are remembered right now, asked in two ways."""
    remembered = (mg.ones(1, requires_grad=True) * 2).requires_grad
    assert remembered == mg.is_grad_enabled()
    return remembered


def test_nesting():
    states = [remembers()]
    with mg.no_grad():
        states.append(remembers())
        with mg.enable_grad():
            states.append(remembers())
            with mg.no_grad():
                states.append(remembers())
            states.append(remembers())
        states.append(remembers())
    states.append(remembers())
    assert states == [True, False, True, False, True, False, True]


def test_after_an_exception():
    with pytest.raises(KeyError), mg.no_grad():
        raise KeyError
    assert remembers()


def test_one_object_again_and_inside_itself():
    mode = mg.no_grad()
    for _ in range(2):
        with mode:
            with mode:
                assert not remembers()
            assert not remembers()
        assert remembers()


@pytest.mark.parametrize("decorator", [mg.no_grad, mg.no_grad()])
def test_decorator(decorator):
    @decorator
    def f(x, *, scale):
        """What f says."""
        return x * scale, mg.is_grad_enabled()

    y, enabled = f(mg.ones(1, requires_grad=True), scale=3)
    assert not y.requires_grad
    assert not enabled
    assert (f.__name__, f.__doc__) == ("f", "What f says.")
    assert remembers()


def test_enable_grad_as_decorator():
    @mg.enable_grad()
    def f():
        return remembers()

    with mg.no_grad():
        assert f()
        assert not remembers()


def test_decorated_recursion_and_exception():
    @mg.no_grad()
    def f(n):
        assert not remembers()
        if n == 0:
            raise KeyError
        f(n - 1)

    with pytest.raises(KeyError):
        f(3)
    assert remembers()


def test_set_grad_enabled():
    with mg.set_grad_enabled(False):
        assert not remembers()
        with mg.set_grad_enabled(True):
            assert remembers()
        assert not remembers()
    assert remembers()
    mg.set_grad_enabled(False)
    assert not remembers()
    mg.set_grad_enabled(True)
    assert remembers()


def test_threads_have_their_own_switch():
    seen = []
    with mg.no_grad():
        thread = threading.Thread(target=lambda: seen.append(remembers()))
        thread.start()
        thread.join()
        assert not remembers()
    assert seen == [True]


def test_one_decorated_function_in_two_threads():
    """Each call remembers its own state: the first thread leaves while the second is still inside."""
    inside, go_on = threading.Barrier(2), [threading.Event(), threading.Event()]
    after = {}

    @mg.no_grad()
    def f(number):
        inside.wait(10)
        go_on[number].wait(10)

    def run(number):
        with mg.set_grad_enabled(number == 0):
            f(number)
            after[number] = mg.is_grad_enabled()

    threads = [threading.Thread(target=run, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for k, thread in enumerate(threads):
        go_on[k].set()
        thread.join()
    assert after == {0: True, 1: False}


def test_leaves_made_under_no_grad_still_require_gradients():
    with mg.no_grad():
        x = mg.ones(1, requires_grad=True)
        y = x * 2
    assert x.requires_grad
    assert not y.requires_grad
    (x * 3).backward()
    assert x.grad.item() == 3.0
