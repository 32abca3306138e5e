"""The settings of a training, each in one place.

A field of `Recipe` declares its default, its range or choices, and its help. The options of
``numpy-vae train``, config.json, the check of a checkpoint, the heading of a run and `Recipe`'s own
docstring are all made from the fields. To add a setting, add a field here and use it in `loop`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from textwrap import wrap
from typing import Any, NamedTuple, Self

import numpy as np

from ..bounds import BOUNDS
from ..checks import check_choice, check_real, check_whole
from ..data.binarize import BINARIZE
from ..optim import MAX_LR, SCHEDULES
from .team import MAX_THREADS, MIN_ROWS

MAX_EPOCHS = 1_000_000
MAX_SAMPLES = 10_000
BATCH_SIZE, MAX_BATCH_SIZE = 128, 1 << 30
MAX_BETA = 1e6


class Setting(NamedTuple):
    """What a field may hold, and what it does."""

    kind: type  # int, float, str or bool
    help: str
    default: str = ""  # in words, if the value needs them
    unit: str = ""  # the metavar in the help
    least: float = 0
    most: float = 0
    open_below: bool = False  # `least` itself is not allowed
    choices: tuple[str, ...] = ()
    optional: bool = False  # it may be None

    def check(self, name: str, value: object) -> Any:
        """Return `value` as a plain Python value; ValueError if it is not allowed."""
        if value is None and self.optional:
            return None
        if self.kind is int:
            return check_whole(name, value, int(self.least), int(self.most))
        if self.kind is float:
            return check_real(name, value, self.least, self.most, open_below=self.open_below)
        if self.kind is str:
            return check_choice(name, value, self.choices)
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name} is {value!r}, must be True or False")
        return bool(value)


def _number(
    default: float | None, least: float, most: float, unit: str, help: str, words: str = "",
    open_below: bool = False,
) -> Any:  # fmt: skip
    kind, optional = type(least), default is None
    setting = Setting(kind, help, words, unit, least, most, open_below, optional=optional)
    return field(default=default, metadata={"setting": setting})


def _choice(default: str, choices: Iterable[str], help: str, words: str = "") -> Any:
    setting = Setting(str, help, words, choices=tuple(choices))
    return field(default=default, metadata={"setting": setting})


def _flag(help: str) -> Any:
    return field(default=False, metadata={"setting": Setting(bool, help, "no")})


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. ValueError if a setting is out of range, or two contradict."""

    # fmt: off
    epochs: int = _number(40, 1, MAX_EPOCHS, "N",
        "passes over the training images; of a resumed run, in total")
    batch_size: int | None = _number(None, 1, MAX_BATCH_SIZE, "B",
        "images per minibatch, at most all", f"{BATCH_SIZE}, or all images if fewer")
    lr: float = _number(0.001, 0.0, MAX_LR, "LR", "Adam's learning rate", open_below=True)
    schedule: str = _choice("constant", SCHEDULES,
        "learning rate over time: constant, cosine (to 0 at the end), or burda (to a tenth in 8 "
        "stages, each three times as long as the one before)")
    average: bool = _flag(
        "keep and evaluate an average of the parameters over training, weighted towards the end; "
        "with a constant learning rate it replaces a schedule")
    grad_clip: float | None = _number(None, 0.0, 1e30, "NORM",
        "clip the gradient to this norm", "no clipping", open_below=True)
    bound: str = _choice("elbo", BOUNDS,
        "what to maximise: the ELBO, or the importance-weighted bound, which gets tighter with "
        "more samples; with one, it is the ELBO with the KL estimated from the draw")
    samples: int = _number(1, 1, MAX_SAMPLES, "K", "draws of z per image and step")
    beta: float = _number(1.0, 0.0, MAX_BETA, "BETA",
        "weight of the KL term (with iwae, of the log ratio); 1 gives a bound of log p(x)")
    warmup: int = _number(0, 0, MAX_EPOCHS, "N",
        "epochs over which beta rises from 0 to its value, at most all")
    output_bias: str = _choice("zero", ("zero", "data"),
        "initial output biases: zero, or values that alone decode to the mean training image (for "
        "bernoulli, its log-odds)")
    binarize: str = _choice("none", BINARIZE,
        "grey pixels: none (kept; with bernoulli a common objective, but not a likelihood), "
        "threshold (at 1/2), static (drawn once, the same for all seeds) or dynamic (drawn for "
        "each minibatch)")
    validation: int = _number(0, 0, 1 << 30, "N",
        "set N training images aside to choose settings on, evaluate them after each epoch and "
        "keep the parameters of the best one; the test set is evaluated once, with those, when "
        "training ends")
    patience: int | None = _number(None, 1, MAX_EPOCHS, "N",
        "stop when the validation ELBO has not risen for N epochs; needs validation",
        "train to the end")
    evaluate_every: int = _number(1, 1, MAX_EPOCHS, "N", "epochs between held-out evaluations")
    threads: int | None = _number(None, 1, MAX_THREADS, "N",
        "threads that share each minibatch; the BLAS must use one thread: install threadpoolctl, "
        "or set OPENBLAS_NUM_THREADS=1",
        f"with threadpoolctl, one per {MIN_ROWS} images (times samples) of a minibatch, at most "
        "one per core; otherwise 1")
    # fmt: on

    def __post_init__(self) -> None:
        for name, setting in SETTINGS.items():
            object.__setattr__(self, name, setting.check(name, getattr(self, name)))
        check_whole("warmup", self.warmup, 0, self.epochs)
        if self.patience is not None and not self.validation:
            must = "must be None where validation is 0: no image is set aside"
            raise ValueError(f"patience is {self.patience}, {must}")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Take the fields of a recipe from a larger mapping, such as the settings of a run."""
        return cls(**{name: settings[name] for name in SETTINGS if name in settings})

    def words(self, but: Collection[str] = ()) -> list[str]:
        """The settings that differ from their defaults: ``["epochs 20", "average"]``."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        changed = {f.name for f in fields(self) if values[f.name] != f.default} - {*but}
        return [n if v is True else f"{n} {v}" for n, v in values.items() if n in changed]


SETTINGS: dict[str, Setting] = {f.name: f.metadata["setting"] for f in fields(Recipe)}


def explain(name: str) -> str:
    """Return what a setting does, and its default."""
    setting = SETTINGS[name]
    default = setting.default or f"{getattr(Recipe, name)}".removesuffix(".0")
    return f"{setting.help} (default: {default})"


Recipe.__doc__ = f"{Recipe.__doc__}\n\n    Parameters\n    ----------" + "".join(
    "\n        ".join([f"\n    {f.name} : {f.type}", *wrap(explain(f.name), 90)])
    for f in fields(Recipe)
)
