"""Pictures for tests of experiments that are there at once: ten fixed patterns with noise."""

import numpy as np

import minigrad as mg
from minigrad.experiments.context import Context


class Patterns(Context):
    """A Context whose data sets are small and need neither files nor the network."""

    def data(self, name, split):
        rng = np.random.default_rng(0 if split == "train" else 1)
        patterns = np.random.default_rng(2).random((10, 1, 28, 28))
        labels = np.arange(200) % 10
        pictures = 0.7 * patterns[labels] + 0.3 * rng.random((200, 1, 28, 28))
        self.used[name] = "patterns"
        return mg.from_numpy(pictures.astype(np.float32)), mg.from_numpy(labels)


def rows_of(experiment, recipe):
    """All rows of all cases."""
    return [row for case in experiment.cases(recipe) for row in experiment.measure(recipe, case, Patterns())]
