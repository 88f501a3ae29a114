# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Batch normalisation, from scratch and in one line
#
# Batch normalisation (Ioffe and Szegedy 2015) puts the inputs of each layer on one scale while the network learns. This
# notebook writes it down with tensor arithmetic, puts it into LeNet, trains that on pictures of clothes, and then does the
# same with the framework's own layers. The last part looks at a question that the training curves raise: why does the
# test accuracy jump so much?
#
# Each `%%` cell can be run by itself once those above it have run.

# %%
import minigrad as mg
from minigrad import d2l, nn
from minigrad.testing import gradcheck

# %% [markdown]
# How much to train. The full run takes a few minutes on two CPU cores; set `num_epochs = 2` for a quick look.

# %% tags=["parameters"]
batch_size = 256
num_epochs = 10
lr = 1.0
train_size = None  # None: all pictures
seed = 0

# %% [markdown]
# ## Standardising the inputs
#
# Before a network sees its data, each feature is usually shifted to mean 0 and scaled to variance 1. Otherwise a feature in
# millimetres would weigh a thousand times as much as the same feature in metres. Here are two features on
# different scales, before and after:

# %%
mg.manual_seed(seed)
X = mg.randn(1000, 2) * mg.tensor([1.0, 50.0]) + mg.tensor([0.0, 300.0])
standardised = (X - X.mean(dim=0)) / X.std(dim=0)
print("before: mean", X.mean(dim=0), "std", X.std(dim=0))
print("after:  mean", standardised.mean(dim=0), "std", standardised.std(dim=0))

# %% [markdown]
# The inputs of the *second* layer are the outputs of the first, and they change with every step. So they would have to be
# standardised again in every step. That is the idea: do it inside the network, with the mean and the variance of the
# batch at hand, and let the network learn which scale and shift it wants.
#
# ## The formula
#
# For each feature (or, in a picture, for each channel) over its $M$ values in the batch:
#
# $$\mu = \frac1M \sum_i x_i, \qquad
#   \sigma^2 = \frac1M \sum_i (x_i - \mu)^2, \qquad
#   \hat x_i = \frac{x_i - \mu}{\sqrt{\sigma^2 + \epsilon}}, \qquad
#   y_i = \gamma \hat x_i + \beta .$$
#
# $\gamma$ and $\beta$ are learned. In a fully connected layer the values of a feature are those of all examples. In a
# convolution they are those of all examples *and* all places of the picture, because a convolution treats all places alike.
# For one example at prediction time there is no batch, so averages of $\mu$ and $\sigma^2$ are kept during training and
# used then.


# %%
def batch_norm(X, gamma, beta, moving_mean, moving_var, eps, momentum, training):
    if not training:
        X_hat = (X - moving_mean) / mg.sqrt(moving_var + eps)
        return gamma * X_hat + beta, moving_mean, moving_var
    dims = (0,) if X.dim() == 2 else (0, 2, 3)
    mean = X.mean(dim=dims, keepdim=True)
    var = ((X - mean) ** 2).mean(dim=dims, keepdim=True)
    X_hat = (X - mean) / mg.sqrt(var + eps)
    moving_mean = momentum * moving_mean + (1 - momentum) * mean.detach()
    moving_var = momentum * moving_var + (1 - momentum) * var.detach()
    return gamma * X_hat + beta, moving_mean, moving_var


# %% [markdown]
# Does it do what the formula says? After it, every channel has mean $\beta$ and standard deviation $\gamma$:

# %%
X = 5 + 3 * mg.randn(64, 2, 8, 8)
gamma, beta = mg.tensor([1.0, 10.0]).reshape(1, 2, 1, 1), mg.tensor([0.0, -1.0]).reshape(1, 2, 1, 1)
Y, _, _ = batch_norm(X, gamma, beta, 0.0, 1.0, 1e-5, 0.9, training=True)
print("mean", Y.mean(dim=(0, 2, 3)), "std", Y.std(dim=(0, 2, 3)))

# %% [markdown]
# And its gradient? Nobody wrote one: the function is made of sums, products and a square root, whose gradients
# minigrad knows. `gradcheck` compares them with differences of the function.
#
# It weighs the outputs with random numbers first. A plain sum would not do: the sum of normalised values is 0 whatever
# the input is, so its gradient is 0, and any wrong gradient that also sums to 0 would pass.

# %%
x = mg.tensor(mg.randn(6, 3), dtype=mg.float64, requires_grad=True)
one = mg.ones(1, 3, dtype=mg.float64)
print("gradients agree:", gradcheck(lambda x: batch_norm(x, one, 0 * one, 0.0, 1.0, 1e-5, 0.9, True)[0], [x]))

batch_norm(x, one, 0 * one, 0.0, 1.0, 1e-5, 0.9, True)[0].sum().backward()
print("gradient of the plain sum:", f"{x.grad.abs().max():.1e}")

# %% [markdown]
# ## A layer
#
# The function becomes a layer when it owns its parameters and its averages. `nn.Parameter`s are learned;
# `nn.Buffer`s are saved with the model but not learned.


# %%
class BatchNorm(nn.Module):
    """num_features: features of (N, C), where num_dims is 2, or channels of (N, C, H, W), where it is 4."""

    def __init__(self, num_features, num_dims):
        super().__init__()
        shape = (1, num_features) if num_dims == 2 else (1, num_features, 1, 1)
        self.gamma = nn.Parameter(mg.ones(shape))
        self.beta = nn.Parameter(mg.zeros(shape))
        self.moving_mean = nn.Buffer(mg.zeros(shape))
        self.moving_var = nn.Buffer(mg.ones(shape))

    def forward(self, X):
        Y, self.moving_mean, self.moving_var = batch_norm(
            X, self.gamma, self.beta, self.moving_mean, self.moving_var, 1e-5, 0.9, self.training
        )
        return Y


# %% [markdown]
# ## LeNet with batch normalisation
#
# Batch norm stands between a convolution or a fully connected layer and its activation.

# %%
mg.manual_seed(seed)
net = nn.Sequential(
    nn.Conv2d(1, 6, kernel_size=5), BatchNorm(6, num_dims=4), nn.Sigmoid(),
    nn.MaxPool2d(kernel_size=2, stride=2),
    nn.Conv2d(6, 16, kernel_size=5), BatchNorm(16, num_dims=4), nn.Sigmoid(),
    nn.MaxPool2d(kernel_size=2, stride=2), nn.Flatten(),
    nn.Linear(16 * 4 * 4, 120), BatchNorm(120, num_dims=2), nn.Sigmoid(),
    nn.Linear(120, 84), BatchNorm(84, num_dims=2), nn.Sigmoid(),
    nn.Linear(84, 10),
)  # fmt: skip

# %% [markdown]
# The learning rate is 1.0. The same network without batch norm does not get far with that rate; try it.

# %%
from minigrad.data import DataLoader, load

data = load("auto", train_size=train_size, test_size=train_size)
print("data:", data.title)
train_iter = DataLoader(data.train, batch_size, shuffle=True)
test_iter = DataLoader(data.test, batch_size)

# %%
d2l.train_ch6(net, train_iter, test_iter, num_epochs, lr, d2l.try_gpu())

# %% [markdown]
# What did the first batch norm learn? Each channel has found a scale and a shift of its own:

# %%
net[1].gamma.reshape((-1,)), net[1].beta.reshape((-1,))

# %% [markdown]
# ## In one line
#
# The framework has the layer built in. `nn.BatchNorm2d` and `nn.BatchNorm1d` compute the same, with a backward pass written
# by hand in place of a dozen remembered operations, so they are faster.

# %%
mg.manual_seed(seed)
concise = nn.Sequential(
    nn.Conv2d(1, 6, kernel_size=5), nn.BatchNorm2d(6), nn.Sigmoid(),
    nn.MaxPool2d(kernel_size=2, stride=2),
    nn.Conv2d(6, 16, kernel_size=5), nn.BatchNorm2d(16), nn.Sigmoid(),
    nn.MaxPool2d(kernel_size=2, stride=2), nn.Flatten(),
    nn.Linear(256, 120), nn.BatchNorm1d(120), nn.Sigmoid(),
    nn.Linear(120, 84), nn.BatchNorm1d(84), nn.Sigmoid(),
    nn.Linear(84, 10),
)  # fmt: skip
d2l.train_ch6(concise, train_iter, test_iter, num_epochs, lr, d2l.try_gpu())

# %% [markdown]
# ## Why does the test accuracy jump?
#
# The training curves are smooth, the test curve is not. The two differ in where $\mu$ and $\sigma^2$ come from: the
# batch in training, the moving averages in prediction. A moving average remembers the last ten batches or so, and at a learning
# rate of 1.0 the weights have moved on since then.
#
# The paper does it differently (Algorithm 2): when training is over, it measures $\mu$ and $\sigma^2$ of the whole training set
# with the final weights. Nothing is learned in that, and yet:

# %%
from minigrad.training import evaluate, population_statistics

moving = evaluate(concise, test_iter)
population_statistics(concise, train_iter)
print(f"test accuracy with moving averages       {moving:.3f}")
print(f"test accuracy with population statistics {evaluate(concise, test_iter):.3f}")

# %% [markdown]
# ## To try
#
# 1. Which learning rates can the network take with batch norm, and which without?
# 2. Leave out the batch norm of some layers. Which ones matter most?
# 3. Swap the order: batch norm after the sigmoid instead of before it.
# 4. Normalise a batch of one, `mg.randn(1, 3)`, with `batch_norm` in training mode. What comes out, and why could
#    nothing be learned from it? What does `nn.BatchNorm1d(3)` say?
# 5. Can dropout take the place of batch norm? Put `nn.Dropout` where the batch norms are.
# 6. The convolutions have a bias, and batch norm subtracts the mean right after. What is the gradient of that bias?
