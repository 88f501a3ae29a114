"""PyTorch as a contestant of `gpu.py`: eager, torch.compile, and a step captured by hand in a CUDA graph.

All of them gather their batches on the device, from bytes, by an order that was copied there, as minigrad does.
The step captured by hand also keeps its position in the order on the device, so that one launch is a whole step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as tF

from benchmarks import torch_models

__all__ = ["contestant"]

Epoch = Callable[[np.ndarray], tuple[float, float]]


def contestant(
    kind: str,
    images: np.ndarray,
    labels: np.ndarray,
    weights: dict[str, np.ndarray],
    tf32_off: bool,
    batch: int,
    lr: float,
    rehearse: bool,
) -> tuple[Epoch, Epoch, dict[str, str]]:
    """(training, inference, versions); each epoch takes an order and gives (mean loss, accuracy)."""
    if tf32_off:
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True  # the fastest convolution that it finds
    device = torch.device("cpu" if rehearse else "cuda")
    data = Data(images, labels, batch, device)
    model: Any = torch_models.lenet_bn()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    model.to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, fused=True)
    make = {"eager": eager, "compile": compiled, "graph": captured}[kind]
    training, inference = make(model, optimizer, data)

    def train(order: np.ndarray) -> tuple[float, float]:
        model.train()
        return training(order)

    def predict(order: np.ndarray) -> tuple[float, float]:
        model.eval()
        with torch.no_grad():
            return inference(order)

    versions = {"PyTorch": torch.__version__, "cuDNN": str(torch.backends.cudnn.version())}
    return train, predict, versions


class Data:
    """The data set, the order and the sums of an epoch, all on the device."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, batch: int, device: torch.device):
        self.images = torch.from_numpy(images).to(device)
        self.labels = torch.from_numpy(labels).to(device)
        self.order = torch.zeros(len(labels) // batch * batch, dtype=torch.int64, device=device)
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.ramp = torch.arange(batch, device=device)
        self.loss = torch.zeros((), device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.batch = batch

    def begin(self, order: np.ndarray) -> int:
        """Start an epoch; returns the number of its batches."""
        self.order.copy_(torch.from_numpy(order))
        for tensor in (self.position, self.loss, self.correct):
            tensor.zero_()
        return len(order) // self.batch

    def take(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images[indices].unsqueeze(1).float().div_(255), self.labels[indices]

    def numbered(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Batch `number`, a number of the host."""
        return self.take(self.order[number * self.batch : (number + 1) * self.batch])

    def next(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch at `position`, which lies on the device."""
        pair = self.take(self.order[self.position * self.batch + self.ramp])
        self.position += 1
        return pair

    def add(self, loss: torch.Tensor | None, outputs: torch.Tensor, y: torch.Tensor) -> None:
        if loss is not None:
            self.loss += loss.detach()
        self.correct += (outputs.argmax(1) == y).sum()

    def figures(self, batches: int) -> tuple[float, float]:
        """Waits for the device."""
        return self.loss.item() / batches, self.correct.item() / (batches * self.batch)


def eager(model: Any, optimizer: Any, data: Data) -> tuple[Epoch, Epoch]:
    def train(order: np.ndarray) -> tuple[float, float]:
        batches = data.begin(order)
        for number in range(batches):
            x, y = data.numbered(number)
            optimizer.zero_grad(set_to_none=True)
            outputs = model(x)
            loss = tF.cross_entropy(outputs, y)
            loss.backward()
            optimizer.step()
            data.add(loss, outputs, y)
        return data.figures(batches)

    def predict(order: np.ndarray) -> tuple[float, float]:
        batches = data.begin(order)
        for number in range(batches):
            x, y = data.numbered(number)
            data.add(None, model(x), y)
        return data.figures(batches)

    return train, predict


def compiled(model: Any, optimizer: Any, data: Data) -> tuple[Epoch, Epoch]:
    """torch.compile of everything but backward and update; it captures forward and backward in graphs of its own."""

    def loss_of(indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = data.take(indices)
        outputs = model(x)
        return tF.cross_entropy(outputs, y), (outputs.argmax(1) == y).sum()

    def right(indices: torch.Tensor) -> torch.Tensor:
        x, y = data.take(indices)
        return (model(x).argmax(1) == y).sum()

    fast_loss = torch.compile(loss_of, mode="reduce-overhead")
    fast_right = torch.compile(right, mode="reduce-overhead")

    def part(number: int) -> torch.Tensor:
        return data.order[number * data.batch : (number + 1) * data.batch]

    def train(order: np.ndarray) -> tuple[float, float]:
        batches = data.begin(order)
        for number in range(batches):
            torch.compiler.cudagraph_mark_step_begin()
            optimizer.zero_grad(set_to_none=True)
            loss, correct = fast_loss(part(number))
            loss.backward()
            optimizer.step()
            data.loss += loss.detach()
            data.correct += correct
        return data.figures(batches)

    def predict(order: np.ndarray) -> tuple[float, float]:
        batches = data.begin(order)
        for number in range(batches):
            torch.compiler.cudagraph_mark_step_begin()
            data.correct += fast_right(part(number))
        return data.figures(batches)

    return train, predict


def captured(model: Any, optimizer: Any, data: Data) -> tuple[Epoch, Epoch]:
    """The whole step in one torch.cuda.CUDAGraph, after PyTorch's notes on CUDA graphs.

    As there, the gradients are None when the capture begins: backward then writes them into the graph's memory and
    has nothing to set to zero or to add to.
    """

    def step() -> None:
        x, y = data.next()
        optimizer.zero_grad(set_to_none=True)
        outputs = model(x)
        loss = tF.cross_entropy(outputs, y)
        loss.backward()
        optimizer.step()
        data.add(loss, outputs, y)

    def look() -> None:
        x, y = data.next()
        data.add(None, model(x), y)

    graphs: dict[str, torch.cuda.CUDAGraph] = {}

    def graph_of(name: str, function: Callable[[], None], order: np.ndarray) -> torch.cuda.CUDAGraph:
        if name not in graphs:
            state = {key: value.clone() for key, value in model.state_dict().items()}
            data.begin(order)
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    function()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                function()
            for key, value in model.state_dict().items():  # as before the warm-up
                value.copy_(state[key])
            graphs[name] = graph
        return graphs[name]

    def run(name: str, function: Callable[[], None], order: np.ndarray) -> tuple[float, float]:
        graph = graph_of(name, function, order)
        batches = data.begin(order)
        for _ in range(batches):
            graph.replay()
        return data.figures(batches)

    return (lambda order: run("train", step, order)), (lambda order: run("look", look, order))
