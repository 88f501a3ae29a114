"""Pictures for tiny runs: as many as such a run needs, drawn by code, under the name that was asked for."""

import functools

from minigrad import data
from minigrad.experiments import context


@functools.cache
def few():
    return data.load("garments", train_size=600, test_size=200, say=None)


def drawn_pictures(monkeypatch):
    """`Context.data` gives 600 training and 200 test pictures for each name, and reads no files."""
    monkeypatch.setattr(context.Context, "_load", lambda self, name: few())
    monkeypatch.setattr(context, "_read", {})
    monkeypatch.setattr(context, "_tensors", {})
