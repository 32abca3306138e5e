"""The affine map, the activations, and a trunk of both, forward and backward.

Axes: B rows (examples), n inputs, m outputs. A trunk has k layers.

Write L for the loss and dy for ∂L/∂y, an array of the shape of y. For y = x W + b, in indices
y_bj = Σ_i x_bi W_ij + b_j, the chain rule sums over every y that an entry takes part in:

    ∂L/∂W_ij = Σ_b x_bi dy_bj,   so dW = xᵀ dy
    ∂L/∂b_j  = Σ_b dy_bj,        so db = the sum of dy over its rows
    ∂L/∂x_bi = Σ_j dy_bj W_ij,   so dx = dy Wᵀ

An activation acts on each entry, y = f(a), so da = dy f'(a). Both f' here can be read off y itself:

    relu  y = a [a > 0]    da = dy [y > 0]       (0 at the kink a = 0)
    tanh  y = tanh a       da = dy (1 - y²)      since (sinh/cosh)' = (cosh² - sinh²)/cosh²

A backward pass takes all that its formula needs as arguments, and overwrites `grad`. Nothing is
remembered between calls, so calling it twice gives the same result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .params import Array, Params


class Dense(NamedTuple):
    """The affine map y = x W + b, or the gradient of one: two views (W, b) into a `Params`."""

    W: Array  # (n, m)
    b: Array  # (m,)

    @classmethod
    def over(cls, params: Params, name: str) -> Dense:
        """Return the pair of blocks `name`.W and `name`.b of `params`."""
        return cls(params[f"{name}.W"], params[f"{name}.b"])

    def forward(self, x: Array) -> Array:
        """y = x W + b, from shape (..., n) to (..., m)."""
        y = flatten_samples(x) @ self.W
        y += self.b
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], len(self.b))

    def backward(self, x: Array, dy: Array, grad: Dense) -> Array:
        """dW = xᵀ dy and db = Σ dy, assigned to `grad`; returns dx = dy Wᵀ, shape (..., n)."""
        self.backward_params(x, dy, grad)
        dx = flatten_samples(dy) @ self.W.T
        return dx if x.ndim == 2 else dx.reshape(x.shape)

    def backward_params(self, x: Array, dy: Array, grad: Dense) -> None:
        """`backward` without dx, for a layer whose input needs no gradient."""
        np.matmul(flatten_samples(x).T, flatten_samples(dy), out=grad.W)  # (n, B) (B, m)
        flatten_samples(dy).sum(axis=0, out=grad.b)


def flatten_samples(x: Array) -> Array:
    """x as a matrix, all axes but the last merged: one product instead of one for each sample."""
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])


class Activation(NamedTuple):
    """A function of each entry, y = f(a), and its derivative read off y: da = dy f'(a)."""

    name: str
    forward: Callable[[Array], Array]
    backward: Callable[[Array, Array], Array]


def relu(a: Array) -> Array:
    """y = a [a > 0]. A NaN stays a NaN. The sign is that of the real part, for the complex step."""
    return a * (a.real > 0)


def relu_backward(y: Array, dy: Array) -> Array:
    """da = dy [y > 0]."""
    return dy * (y.real > 0)


def tanh(a: Array) -> Array:
    """y = tanh a."""
    return np.tanh(a)


def tanh_backward(y: Array, dy: Array) -> Array:
    """da = dy (1 - y²)."""
    return dy * (1 - y * y)


ACTIVATIONS = {
    "relu": Activation("relu", relu, relu_backward),
    "tanh": Activation("tanh", tanh, tanh_backward),
}


class Trunk(NamedTuple):
    """h_i = f(h_{i-1} W_i + b_i) for i = 1 ... k, from h_0 = x. With k = 0 it is the identity."""

    layers: tuple[Dense, ...]  # k of them
    activation: Activation

    @classmethod
    def over(cls, params: Params, name: str, activation: Activation) -> Trunk:
        """Return the layers `name`.0, `name`.1, ... of `params`."""
        layers: list[Dense] = []
        while f"{name}.{len(layers)}.W" in params:
            layers.append(Dense.over(params, f"{name}.{len(layers)}"))
        return cls(tuple(layers), activation)

    def forward(self, x: Array) -> tuple[Array, ...]:
        """Return (h_0, h_1, ..., h_k), the input first and the output last: what backward reads."""
        hs = [x]
        for layer in self.layers:
            hs.append(self.activation.forward(layer.forward(hs[-1])))
        return tuple(hs)

    def backward(self, hs: tuple[Array, ...], dh: Array, grad: Trunk) -> Array:
        """From dh = ∂L/∂h_k back to ∂L/∂x; the parameter gradients are assigned to `grad`."""
        for i in reversed(range(len(self.layers))):
            da = self.activation.backward(hs[i + 1], dh)
            dh = self.layers[i].backward(hs[i], da, grad.layers[i])
        return dh

    def backward_params(self, hs: tuple[Array, ...], dh: Array, grad: Trunk) -> None:
        """`backward` without ∂L/∂x, which would take a tenth of a training step on images."""
        for i in reversed(range(len(self.layers))):
            da = self.activation.backward(hs[i + 1], dh)
            if i > 0:
                dh = self.layers[i].backward(hs[i], da, grad.layers[i])
            else:
                self.layers[0].backward_params(hs[0], da, grad.layers[0])
