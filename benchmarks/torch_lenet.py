"""The run of `python -m minigrad.train lenet_bn`, written as a PyTorch user would, without minigrad.

    python benchmarks/torch_lenet.py --data-dir fashion-mnist --epochs 10 --output runs/torch

The same files, the same network and starting scheme, SGD with the same rate, batches of the same size in a new
random order each epoch, loss and accuracy of every batch, the test accuracy after every epoch, and after every
epoch the weights and the state of the training on disk. The pictures stay bytes until their batch is due, which
is faster, and smaller, than torchvision's way of one picture after the other.
"""

from __future__ import annotations

import argparse
import gzip
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def read_idx(folder: Path, name: str) -> np.ndarray:
    """The array in an IDX file of bytes, compressed or not."""
    packed = folder / f"{name}.gz"
    content = gzip.decompress(packed.read_bytes()) if packed.exists() else (folder / name).read_bytes()
    axes = content[3]
    shape = np.frombuffer(content, ">i4", axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def lenet_bn() -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6), nn.Sigmoid(), nn.MaxPool2d(2, 2),
        nn.Conv2d(6, 16, 5), nn.BatchNorm2d(16), nn.Sigmoid(), nn.MaxPool2d(2, 2),
        nn.Flatten(),
        nn.Linear(256, 120), nn.BatchNorm1d(120), nn.Sigmoid(),
        nn.Linear(120, 84), nn.BatchNorm1d(84), nn.Sigmoid(),
        nn.Linear(84, 10),
    )  # fmt: skip
    for layer in net:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(layer.weight)
    return net


def batch_of(images: np.ndarray, labels: np.ndarray, chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    X = torch.from_numpy(images[chosen]).unsqueeze(1).float().div_(255)
    return X, torch.from_numpy(labels[chosen])


def train_epoch(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: np.ndarray,
    labels: np.ndarray,
    order: np.ndarray,
    batch_size: int,
) -> tuple[float, float]:
    """Mean loss and accuracy over the epoch."""
    net.train()
    total, correct = 0.0, 0.0
    for start in range(0, len(order), batch_size):
        X, y = batch_of(images, labels, order[start : start + batch_size])
        optimizer.zero_grad()
        outputs = net(X)
        loss = F.cross_entropy(outputs, y)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
        correct += (outputs.argmax(1) == y).sum().item()
    return total / len(order), correct / len(order)


@torch.inference_mode()
def evaluate(net: nn.Module, images: np.ndarray, labels: np.ndarray, batch_size: int) -> float:
    """Accuracy with the running statistics."""
    net.eval()
    correct = 0.0
    for start in range(0, len(images), batch_size):
        X, y = batch_of(images, labels, np.arange(start, min(start + batch_size, len(images))))
        correct += (net(X).argmax(1) == y).sum().item()
    return correct / len(images)


def save(contents: object, path: Path) -> None:
    """Appears whole or not at all."""
    torch.save(contents, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def main() -> None:
    parser = argparse.ArgumentParser(description="train the batch-normalised LeNet with PyTorch")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with the four IDX files")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--lr", type=float, default=1.0)
    parser.add_argument("--limit", type=int, help="only the first N training and test pictures")
    parser.add_argument("--threads", type=int, help="default: PyTorch's choice")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True, help="folder for the weights")
    options = parser.parse_args()

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    images, labels, test_images, test_labels = (
        read_idx(options.data_dir, f"{part}-{kind}-ubyte")[: options.limit]
        for part in ("train", "t10k")
        for kind in ("images-idx3", "labels-idx1")
    )
    labels, test_labels = labels.astype(np.int64), test_labels.astype(np.int64)
    net = lenet_bn()
    optimizer = torch.optim.SGD(net.parameters(), lr=options.lr, fused=True)
    options.output.mkdir(parents=True, exist_ok=True)

    for epoch in range(1, options.epochs + 1):
        start = time.perf_counter()
        order = rng.permutation(len(images))
        loss, accuracy = train_epoch(net, optimizer, images, labels, order, options.batch_size)
        seconds = time.perf_counter() - start
        test_accuracy = evaluate(net, test_images, test_labels, options.batch_size)
        save(net.state_dict(), options.output / "model.pt")
        save({"epoch": epoch, "model": net.state_dict(), "optimizer": optimizer.state_dict()},
             options.output / "state.pt")  # fmt: skip
        print(
            f"epoch {epoch}/{options.epochs}  loss {loss:.4f}  train acc {accuracy:.3f}  "
            f"test acc {test_accuracy:.3f}  {len(images) / seconds:.0f} examples/s",
            flush=True,
        )


if __name__ == "__main__":
    main()
