"""A small residual network for colour pictures of 32 x 32 pixels.

    3 x 32 x 32 -> 16 x 32 x 32 -> 32 x 16 x 16 -> 64 x 8 x 8 -> mean of each channel = 64 -> 10

K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2,
with one block in each of the three stages (their n = 1, "6n + 2" = 8 layers with weights). A block learns
only what it adds to its input:

    y = relu(x + BN(conv(relu(BN(conv(x))))))

Where a block halves the picture, x is brought to the new shape by a 1 x 1 convolution, the paper's option B.
Layers that follow each other stand in a Sequential, so that `minigrad.compile` can fuse them. The data sets of the
trainer are 28 x 28 and grey, so this network is built by hand: `models.resnet8()`.
"""

from __future__ import annotations

from minigrad import nn
from minigrad.tensor import Tensor

__all__ = ["BasicBlock", "ResNet", "resnet8"]


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Without a bias: the batch norm that follows would take it away again."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut: (N, C, H, W) -> (N, O, H / stride, W / stride).

    >>> import minigrad as mg
    >>> BasicBlock(16, 32, stride=2)(mg.zeros(2, 16, 8, 8)).shape
    (2, 32, 4, 4)
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.residual = nn.Sequential(
            conv3x3(in_channels, out_channels, stride),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            conv3x3(out_channels, out_channels),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.residual(x) + self.shortcut(x))


class ResNet(nn.Module):
    """Three stages of `blocks` blocks, with 16, 32 and 64 channels; the second and third halve the picture.

    The weights of the convolutions start normal with variance 2 / fan_out (He et al. 2015), as torchvision's.

    Args:
        blocks: in each stage; the network has 6 * blocks + 2 layers with weights.
        num_classes: how many outputs.
    """

    def __init__(self, blocks: int = 1, num_classes: int = 10):
        super().__init__()
        self.stem = nn.Sequential(conv3x3(3, 16), nn.BatchNorm2d(16), nn.ReLU())
        self.layer1 = stage(16, 16, blocks, stride=1)
        self.layer2 = stage(16, 32, blocks, stride=2)
        self.layer3 = stage(32, 64, blocks, stride=2)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer3(self.layer2(self.layer1(self.stem(x)))))


def stage(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    """`blocks` blocks, of which the first changes the shape."""
    first = BasicBlock(in_channels, out_channels, stride)
    return nn.Sequential(first, *[BasicBlock(out_channels, out_channels) for _ in range(blocks - 1)])


def resnet8(num_classes: int = 10) -> ResNet:
    """The residual network with eight layers, about 78,000 parameters.

    >>> import minigrad as mg
    >>> resnet8()(mg.zeros(2, 3, 32, 32)).shape
    (2, 10)
    """
    return ResNet(1, num_classes)
