"""Models by name. `lenet.py`, `mlp.py` and `resnet.py` are a page each, as you would write them.

`registry.py` lists those that the trainer knows.

from minigrad import models

net = models.lenet_bn()
net = models.get("lenet_bn").make()  # the same with the weights that its recipe starts from
"""

from minigrad.models.initialization import init_xavier
from minigrad.models.lenet import lenet, lenet_bn, lenet_bn_scratch
from minigrad.models.mlp import mlp, mlp_bn
from minigrad.models.registry import MODELS, ModelInfo, get
from minigrad.models.resnet import ResNet, resnet8

__all__ = [
    "MODELS",
    "ModelInfo",
    "ResNet",
    "get",
    "init_xavier",
    "lenet",
    "lenet_bn",
    "lenet_bn_scratch",
    "mlp",
    "mlp_bn",
    "resnet8",
]
