"""Pictures: what is in them, that they are whole files, and that nobody's backend is changed."""

import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from minigrad import plot
from minigrad.errors import ArgumentError, DataError

ROOT = Path(__file__).resolve().parents[1]
HISTORY = [
    {"epoch": 1, "train_loss": 0.8, "train_acc": 0.7, "test_acc": 0.6, "lr": 1.0},
    {"epoch": 2, "train_loss": 0.5, "train_acc": 0.8, "test_acc": 0.75, "lr": 1.0},
]


def lines(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}


def test_the_curves_show_the_history():
    left, right = plot.curves(HISTORY, "mlp on garments", population_acc=0.79).axes
    assert left.lines[0].get_xydata().tolist() == [[1, 0.8], [2, 0.5]]
    assert lines(right) == {
        "training": [[1, 0.7], [2, 0.8]],
        "test": [[1, 0.6], [2, 0.75]],
        "test, population statistics": [[2, 0.79]],
    }
    assert (left.get_xlabel(), left.get_ylabel()) == ("epoch", "training loss")
    assert (right.get_xlabel(), right.get_ylabel()) == ("epoch", "accuracy")
    assert [text.get_text() for text in right.get_legend().get_texts()] == list(lines(right))
    assert left.figure.get_suptitle() == "mlp on garments"


def test_one_epoch_can_be_seen():
    for axes in plot.curves(HISTORY[:1]).axes:
        assert all(line.get_marker() == "o" for line in axes.lines)
        assert axes.get_xlim() == (0.5, 1.5)
        assert [tick for tick in axes.get_xticks() if 0.5 <= tick <= 1.5] == [1]


def test_the_picture_is_not_empty_and_fits_its_frame(tmp_path):
    plot.save(plot.curves(HISTORY, population_acc=0.79), tmp_path / "c.png")
    pixels = plot.pyplot().imread(tmp_path / "c.png")[..., :3]
    assert pixels.shape == (540, 1350, 3)
    assert np.unique(pixels.reshape(-1, 3), axis=0).shape[0] > 50
    for edge in (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]):  # nothing is cut off
        assert (edge == 1).all()


def test_bad_histories():
    with pytest.raises(ArgumentError, match="there is no epoch to draw yet"):
        plot.curves([])
    with pytest.raises(DataError, match="has no column train_acc, test_acc; it needs epoch, train_loss"):
        plot.curves([{"epoch": 1, "train_loss": 1.0}])


def test_a_file_is_whole_or_the_old_one(tmp_path):
    path = tmp_path / "c.png"
    plot.save(plot.curves(HISTORY), path)
    before = path.read_bytes()

    class Breaks:
        def savefig(self, file, **options):
            Path(file).write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plot.save(Breaks(), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["c.png"]


def test_files_need_neither_pyplot_nor_a_display_nor_stderr(tmp_path):
    """In a fresh process with a backend that would fail, and nowhere to keep a font cache."""
    (tmp_path / "file").write_text("")
    code = (
        "import sys\n"
        "from minigrad import plot\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"plot.save(plot.curves({HISTORY!r}), {str(tmp_path / 'c.png')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    environment = {"MPLBACKEND": "tkagg", "PATH": "", "MPLCONFIGDIR": str(tmp_path / "file" / "config")}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert (tmp_path / "c.png").stat().st_size > 10_000


def test_the_level_of_the_log_comes_back():
    import logging

    log = logging.getLogger("matplotlib")
    log.setLevel(logging.INFO)
    try:
        plot.new_figure()
        assert log.level == logging.INFO
    finally:
        log.setLevel(logging.NOTSET)


# A notebook ---


class Notebook:
    """Stands for IPython in a notebook's kernel: keeps what is displayed and what waits for a cell's end."""

    def __init__(self, monkeypatch):
        self.shown, self.waiting, self.kernel = [], [], object()
        self.events = self
        ipython = types.ModuleType("IPython")
        ipython.version_info = (9, 0, 0)
        ipython.get_ipython = lambda: self
        ipython.display = types.ModuleType("IPython.display")
        ipython.display.SVG = lambda data: data
        ipython.display.display = self.display
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)

    def display(self, picture, display_id):
        assert display_id is True
        self.shown.append(("new", picture))
        return types.SimpleNamespace(update=lambda picture: self.shown.append(("update", picture)))

    def register(self, event, function):
        assert event == "post_execute"
        self.waiting.append(function)

    def unregister(self, event, function):
        self.waiting.remove(function)

    def end_cell(self):
        for function in list(self.waiting):
            function()


@pytest.fixture
def notebook(monkeypatch):
    return Notebook(monkeypatch)


def test_a_live_picture_is_drawn_at_most_once_a_second(notebook):
    now = [100.0]
    drawn = []

    def draw():
        drawn.append(now[0])
        return plot.new_figure()

    display = plot.NotebookDisplay(draw, interval=1.0, clock=lambda: now[0])
    assert display.active
    for now[0] in (100.0, 100.4, 100.9, 101.0, 101.5):
        display.changed()
    assert drawn == [100.0, 101.0]
    assert [kind for kind, _ in notebook.shown] == ["new", "update"]
    assert notebook.shown[0][1].startswith("<?xml")
    notebook.end_cell()
    assert drawn == [100.0, 101.0, 101.5]  # the last state is not lost
    assert notebook.waiting == []
    notebook.end_cell()
    display.flush()
    assert len(drawn) == 3


def test_outside_of_a_notebook_nothing_is_drawn(monkeypatch):
    def never():
        raise AssertionError("nobody sees this")

    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    display = plot.NotebookDisplay(never)
    display.changed()
    display.flush()
    assert not display.active
    terminal = types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace())  # IPython without a kernel
    monkeypatch.setitem(sys.modules, "IPython", terminal)
    assert not plot.NotebookDisplay(never).active


def test_set_axes():
    (axes,) = [plot.new_figure().subplots()]
    axes.plot([1, 2], [3, 4])
    plot.set_axes(axes, "x", "y", [0, 5], [1, 10], yscale="log", legend=["line"])
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_xlim(), axes.get_ylim()) == (
        "x",
        "y",
        (0, 5),
        (1, 10),
    )
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "log")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["line"]


def test_images():
    axes = plot.new_figure().subplots(1, 3)
    plot.images([np.eye(4), np.eye(5)[None], np.zeros((4, 4, 3))], axes, ["a", "b"])
    assert [one.images[0].get_array().shape for one in axes] == [(4, 4), (5, 5), (4, 4, 3)]
    assert [one.get_title() for one in axes] == ["a", "b", ""]
