"""What is really wrong with the Keras code of page 1? Three slips, none of them log sigma = mu.

Letters of this module: B images, D pixels, H hidden, Z latent dimensions, a the output of the head
`z_log_sigma`, c the standard deviation of the noise, epsilon = c eps with eps ~ N(0, I).

`Layers` is that code in NumPy, under its own names: 784-256-2-256-784, relu, Glorot weights. With
R_x = 1 for a sum over the pixels and D for a mean, and R_z = 1 or Z for the latent dimensions,

    z    = mu + e^a epsilon
    loss = 1/B Σ_b [nll / R_x + kl / R_z]            nll = Σ_d softplus(l) - x l
                                                     kl  = Σ_z (mu² + e^λ - 1 - λ) / 2

where λ is what the KL takes for log sigma²: 2 a is right, as a is log sigma in z; the code has a.
`Code` has a knob for each slip: λ / a, the two R, and c. With dnll = 1 / (B R_x), dkl = 1 / (B R_z)

    dmu = dz + dkl mu                            da = dz epsilon e^a + dkl (e^λ - 1) / 2 · λ / a

R_x times the loss is nll + beta kl with beta = R_x / R_z. The q that is sampled is N(mu, c² e^2a),
and the true -ELBO is nll plus the KL of that.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import posterior
from ..data.binarize import batch, minibatches, to_float
from ..data.dataset import Dataset
from ..layers import Dense, relu, relu_backward
from ..likelihood import Bernoulli
from ..optim import Adam
from ..params import Array, Params
from .pictures import draw_rows
from .report import Claim, Column, Setting, Study, Table, columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

D, Z = 784, 2
SHOWN = 4  # images
NLL = Bernoulli()  # cross-entropy of logits, where Keras has a sigmoid and clips it


class Code(NamedTuple):
    """The loss and the noise of the question, with a knob for each slip."""

    name: str
    meaning: int  # λ / a: 2 if the KL takes a for log sigma, 1 if for log sigma²
    R_x: int
    R_z: int
    epsilon_std: float  # c

    @property
    def beta(self) -> float:
        """The weight of the KL where the reconstruction is in nats."""
        return self.R_x / self.R_z


QUOTED = Code("quoted: two means, two meanings, noise 0.01", 1, D, Z, 0.01)
HONEST = Code("the same code, noise 1", 1, D, Z, 1.0)
LATER = Code("later: one mean, one meaning, noise 0.01", 2, D, 1, 0.01)
MIXED = Code("sums, two meanings, noise 1", 1, 1, 1, 1.0)
QUIET = Code("sums, one meaning, noise 0.01", 2, 1, 1, 0.01)
RIGHT = Code("right: sums, one meaning, noise 1", 2, 1, 1, 1.0)
CODES = QUOTED, HONEST, LATER, MIXED, QUIET, RIGHT


class Values(NamedTuple):
    """What one forward pass computed, under the names of the question."""

    x: Array  # (B, D)
    epsilon: Array  # (B, Z)
    h: Array  # (B, H)
    z_mean: Array  # (B, Z)
    z_log_sigma: Array  # (B, Z)
    z: Array  # (B, Z)
    h_decoded: Array  # (B, H)
    logits: Array  # (B, D)


class Layers(NamedTuple):
    """The five Dense layers of the question, or their gradient."""

    h: Dense  # (D, H)
    z_mean: Dense  # (H, Z)
    z_log_sigma: Dense  # (H, Z)
    decoder_h: Dense  # (Z, H)
    decoder_mean: Dense  # (H, D)

    @classmethod
    def over(cls, params: Params) -> Layers:
        """Return the layers as views into the parameters, or into their gradient."""
        return cls(*(Dense.over(params, name) for name in cls._fields))

    def forward(self, x: Array, epsilon: Array) -> Values:
        """Encode, sample, decode."""
        h = relu(self.h.forward(x))
        z_mean = self.z_mean.forward(h)
        z_log_sigma = self.z_log_sigma.forward(h)
        z = z_mean + np.exp(z_log_sigma) * epsilon
        h_decoded = relu(self.decoder_h.forward(z))
        logits = self.decoder_mean.forward(h_decoded)
        return Values(x, epsilon, h, z_mean, z_log_sigma, z, h_decoded, logits)

    def backward(self, code: Code, v: Values, grad: Layers) -> None:
        """Assign the gradient of `vae_loss` to `grad`."""
        dnll, dkl = 1 / (len(v.x) * code.R_x), 1 / (len(v.x) * code.R_z)
        dlogits = NLL.nll_backward(v.x, v.logits, np.full(len(v.x), dnll, v.x.dtype))
        dh_decoded = self.decoder_mean.backward(v.h_decoded, dlogits, grad.decoder_mean)
        da_decoded = relu_backward(v.h_decoded, dh_decoded)
        dz = self.decoder_h.backward(v.z, da_decoded, grad.decoder_h)
        # z_mean and z_log_sigma are read twice, by the sample and by the KL.
        dz_mean = dz + dkl * v.z_mean
        of_sample = dz * v.epsilon * np.exp(v.z_log_sigma)
        of_kl = dkl * (np.exp(code.meaning * v.z_log_sigma) - 1) / 2 * code.meaning
        dh = self.z_mean.backward(v.h, dz_mean, grad.z_mean)
        dh = dh + self.z_log_sigma.backward(v.h, of_sample + of_kl, grad.z_log_sigma)
        self.h.backward_params(v.x, relu_backward(v.h, dh), grad.h)


def terms(code: Code, v: Values) -> tuple[Array, Array, Array]:
    """nll, the KL as coded, and that of the q which is sampled: each (B,), summed, in nats."""
    log_var = code.meaning * v.z_log_sigma
    kl = -0.5 * (1 + log_var - v.z_mean**2 - np.exp(log_var)).sum(axis=-1)
    logvar = 2 * (v.z_log_sigma + math.log(code.epsilon_std))  # of sigma = c e^a
    sampled = posterior.kl(v.z_mean, logvar, posterior.standard_deviation(logvar))
    return NLL.nll(v.x, v.logits), kl, sampled


def vae_loss(code: Code, v: Values) -> Any:
    """The loss of the code, with its reductions."""
    nll, kl, _ = terms(code, v)
    return (nll / code.R_x + kl / code.R_z).mean()


def glorot(hidden: int, rng: np.random.Generator) -> Params:
    """Draw the weights as Keras does, uniform in ±√(6 / (n + m)); biases stay zero."""
    sizes = (D, hidden), (hidden, Z), (hidden, Z), (Z, hidden), (hidden, D)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (n, m) in zip(Layers._fields, sizes, strict=True):
        shapes |= {f"{name}.W": (n, m), f"{name}.b": (m,)}
    params = Params(shapes)
    for W, _ in Layers.over(params):
        W[:] = rng.uniform(-1, 1, W.shape) * math.sqrt(6 / sum(W.shape))
    return params


class Run(NamedTuple):
    """One code, trained; means over the test images, in nats."""

    code: Code
    nll: float
    coded: float  # the KL as the code has it
    sampled: float  # the KL of the q that is sampled
    spread: float  # standard deviation of z over the test images
    pictures: Array  # (2, SHOWN, D) reconstructions, and decoded from z ~ N(0, I)

    @property
    def reported(self) -> float:
        """The -ELBO that the code reports: its loss, times R_x."""
        return self.nll + self.code.beta * self.coded

    @property
    def true(self) -> float:
        """-ELBO of the q that is sampled."""
        return self.nll + self.sampled


class Found(NamedTuple):
    """The numbers of the page."""

    runs: dict[Code, Run]
    mean_image: float  # nll of the mean training image, in nats
    images: Array  # (SHOWN, D)


def train(code: Code, data: Dataset, quick: bool, rng: np.random.Generator) -> Layers:
    """Train with Adam; a seed draws the same weights, order and eps for every code."""
    hidden, epochs, size, lr = (64, 14, 20, 1.5e-3) if quick else (256, 3, 100, 1e-3)
    params = glorot(hidden, rng)
    grads, adam = params.zeros_like(), Adam(params, lr)
    net, grad = Layers.over(params), Layers.over(grads)
    for _ in range(epochs):
        for rows in minibatches(len(data.train), size, rng):
            epsilon = code.epsilon_std * rng.standard_normal((len(rows), Z), np.float32)
            net.backward(code, net.forward(batch(data.train, rows), epsilon), grad)
            adam.step(grads)
    return net


def run(setting: Setting) -> Found:
    """Train and test each code."""
    data = setting.data if setting.quick else setting.images(50_000, 10_000)
    x, runs = to_float(data.test), {}
    for code in CODES:
        setting.say(f"training {code.name}")
        rng = np.random.default_rng(setting.seed)
        net = train(code, data, setting.quick, rng)
        v = net.forward(x, code.epsilon_std * rng.standard_normal((len(x), Z), np.float32))
        nll, coded, sampled = (float(each.mean(dtype=float)) for each in terms(code, v))
        z = rng.standard_normal((SHOWN, Z), np.float32)  # from the prior
        drawn = net.decoder_mean.forward(relu(net.decoder_h.forward(z)))
        pictures = NLL.mean(np.stack([v.logits[:SHOWN], drawn]))
        spread = float(v.z.std(axis=0).mean())
        runs[code] = Run(code, nll, coded, sampled, spread, pictures)
    mean = to_float(data.train).mean(axis=0, dtype=float).clip(1e-7, 1 - 1e-7)
    return Found(runs, float(NLL.nll(x, NLL.link(mean)).mean()), x[:SHOWN])


def kl_of_the_noise(c: float) -> float:
    """KL(N(0, c² I) || N(0, I)), in nats: the least that a sigma fixed at c costs."""
    return Z * (c * c - 1 - 2 * math.log(c)) / 2


TABLES = (
    Table("Weight β of the KL, what noise c leaves of it, and the KL of N(0, c² I) from N(0, I)",
          (Column("code"), Column("β", "g"), Column("c", "g"), Column("βc²", "g"),
           Column("KL of the noise, nats", ".2f")),
          lambda _: [(code.name, code.beta, code.epsilon_std, code.beta * code.epsilon_std**2,
                      kl_of_the_noise(code.epsilon_std)) for code in CODES], images=False),
    Table("Test images, nats per image",
          (Column("code"), Column("nll", ".1f", within=4),
           Column("KL as coded", ".3f", within=0.4), Column("KL of q", ".2f", within=0.6),
           *columns("reported -ELBO", "true -ELBO", form=".1f", within=4),
           Column("std of z", ".3f", within=0.4)),
          lambda found: [*((r.code.name, r.nll, r.coded, r.sampled, r.reported, r.true, r.spread)
                           for r in found.runs.values()),
                         ("z unused: the mean image", found.mean_image, 0.0, 0.0,
                          found.mean_image, found.mean_image, 1.0)]),
)  # fmt: skip

CLAIMS = (
    Claim("With noise 1 the quoted code learns nothing: its nll is within 2 nats of that of the "
          "mean training image, and its KL is below 0.1.",
          lambda found: (abs(found.runs[HONEST].nll - found.mean_image) < 2
                         and found.runs[HONEST].sampled < 0.1)),
    Claim("With noise 0.01 the same code learns: its nll is lower by more than 10 nats. With the "
          "later loss, of β = 784, it is lower by more than 5.",
          lambda found: (found.runs[QUOTED].nll < found.runs[HONEST].nll - 10
                         and found.runs[LATER].nll < found.runs[HONEST].nll - 5)),
    Claim("In these two the KL as coded is below 0.1, the q that is sampled has a KL of 8.21 nats, "
          "to 0.05, and z has a standard deviation below 0.2.",
          lambda found: all(run.coded < 0.1 and run.spread < 0.2
                            and abs(run.sampled - kl_of_the_noise(0.01)) < 0.05
                            for run in (found.runs[QUOTED], found.runs[LATER]))),
    Claim("The two meanings alone make the reported -ELBO too small by 1 to 4 nats, the noise "
          "alone by more than 7.",
          lambda found: (1 < found.runs[MIXED].true - found.runs[MIXED].reported < 4
                         and found.runs[QUIET].true - found.runs[QUIET].reported > 7)),
    Claim("By its report the code with sums and noise 0.01 is better than the right one by more "
          "than 2 nats; its true -ELBO is worse. No code beats the right one by more than 2.",
          lambda found: (found.runs[QUIET].reported < found.runs[RIGHT].reported - 2
                         and found.runs[QUIET].true > found.runs[RIGHT].true
                         and all(run.true > found.runs[RIGHT].true - 2
                                 for run in found.runs.values()))),
)  # fmt: skip


def draw(figure: Figure, found: Found) -> None:
    """Reported and true -ELBO of each code, beside its reconstructions and its samples."""
    left, right = figure.subplots(1, 2, width_ratios=(1, 2), sharey=True)
    blank = np.zeros((1, D))
    rows = {"test images": np.vstack([found.images, *[blank] * (SHOWN + 1)])}
    for y, run in enumerate(found.runs.values(), start=1):
        at, (seen, drawn) = 28 * (y + 0.5), run.pictures
        rows[run.code.name.replace(", noise", ",\nnoise")] = np.vstack([seen, blank, drawn])
        left.plot([run.reported, run.true], [at, at], "C6-", lw=1)
        left.plot(run.reported, at, "C6o", mfc="white", ms=6)
        left.plot(run.true, at, "C0o", ms=6)
    left.axvline(found.mean_image, color="0.8", zorder=0)
    left.text(found.mean_image, 14, "mean image ", color="0.4", ha="right", fontsize=8)
    left.text(found.runs[QUOTED].reported, 34, "reported ", color="C6", ha="right", fontsize=8)
    left.text(found.runs[QUOTED].true, 34, " true", color="C0", fontsize=8)
    left.set(xlabel="-ELBO, nats per image (lower is better)")
    draw_rows(right, rows, (28, 28))
    right.set_aspect("auto")  # as high as the panel beside it
    right.text(14 * SHOWN, -3, "reconstructed", ha="center")
    right.text(28 * (1.5 * SHOWN + 1), -3, "decoded from z ~ N(0, I)", ha="center")


CONCLUSION = (
    "Three things, and none is log sigma = mu: one name with two meanings, two means where sums "
    "belong, and noise of standard deviation 0.01, which hides both."
)
STUDY = Study(
    "slips", "What is really wrong with that code?", CONCLUSION, run, TABLES, CLAIMS, draw, 4.2
)
