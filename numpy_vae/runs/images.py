"""Reload the images of a run, and draw its figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np

from ..data.arrays import Reading
from ..data.binarize import black_or_white
from ..data.dataset import Dataset, Shape, fingerprint, guess_image_shape
from ..data.load import NAMED, load_data
from ..data.mapped import subset
from ..training.loop import prepare
from ..training.recipe import Recipe
from ..training.state import State

MAX_SHOWN = 10_000  # test images, in the figures
# `OwnFiles.write` or `OwnFiles.write_or_keep`
WriteFile: TypeAlias = Callable[..., AbstractContextManager[IO[bytes]]]


def find_data(
    state: State, data: Dataset | None = None, image_shape: Shape | None = None
) -> Dataset:
    """Return the training data of a run: `data`, or what its settings name, prepared for training.

    ValueError if they cannot be found, or are not the images that the run was trained on.
    """
    settings = state.settings
    name = settings["data"]
    if data is None and name is None:
        raise ValueError(
            f"the run was trained on arrays in memory, called {settings.get('name')}: pass them to "
            "Run.resume(folder, data)"
        )
    if data is None and name not in NAMED and not Path(name).exists():
        where = "which does not exist: if it has moved, pass --data FILE (Run.resume(folder, data))"
        raise ValueError(f"the run was trained on {name}, {where}")
    given = name if data is None else data.source or data.name
    if data is None:
        data = load_data(name, settings["data_dir"], Reading.of(settings))
    if fingerprint(data) != settings["fingerprint"]:
        raise ValueError(
            f"{given} does not hold the images that the run was trained on, those of "
            f"{name or settings.get('name')}"
        )
    data = replace(data, image_shape=shape_of(state, image_shape))
    return prepare(state.vae, data, Recipe.of(settings))


def shape_images(data: Dataset, asked: Shape | None) -> Dataset:
    """Return the data with images of the shape `asked` for, if any."""
    own = data.image_shape
    if asked is not None and check_image_shape(asked, data.train.shape[1]) != (own or asked):
        raise ValueError(
            f"the image shape is {format_shape(asked)}, must be {format_shape(own)}, that of the "
            f"images of {data.name}"
        )
    return data if asked is None else replace(data, image_shape=asked)


def format_shape(image_shape: Shape | None) -> str:
    """Return a shape as text, such as 8x8."""
    return "x".join(map(str, image_shape or ()))


def check_image_shape(image_shape: Shape, data_dim: int) -> Shape:
    """Return the shape; ValueError if it does not have the values of an image."""
    sides = tuple(map(int, image_shape))
    if (len(sides) != 2 and (len(sides) != 3 or sides[2] != 3)) or math.prod(sides) != data_dim:
        raise ValueError(
            f"the image shape is {format_shape(sides)}, {math.prod(sides)} pixels, must be a "
            f"height and a width (x3 in colour) with the {data_dim} pixels of an image"
        )
    return sides


def name_of(settings: Mapping[str, Any]) -> str:
    """Return the name of a run's data, without loading them."""
    return str(settings.get("name") or Path(settings["data"]).stem)


def shape_of(state: State, asked: Shape | None) -> Shape | None:
    """Return the shape of a run's images: the one asked for, or its own; None for a table."""
    data_dim, own = state.vae.data_dim, state.settings["image_shape"]
    if asked is not None:
        return check_image_shape(asked, data_dim)
    if own is None:  # older runs say so of images, too
        return None if "reading" in state.settings else guess_image_shape(data_dim)
    return check_image_shape(tuple(own), data_dim)


def draw_figures(
    state: State, data: Dataset, folder: Path, format: str, write: WriteFile
) -> list[Path]:
    """Write the figures of a run; the same run always gives the same pictures."""
    from ..figures.of_a_run import save_figures  # slow to import: matplotlib

    noise, pixels = state.streams.held_out()
    binarize, n = state.settings["binarize"], len(data.test)
    rows = np.linspace(0, n - 1, min(n, MAX_SHOWN)).astype(int)  # a file may be sorted by label
    test = subset(data.test, rows)
    labels, factors = data.test_labels, data.test_factors
    shown = replace(
        data, test=test,
        name=data.name if data.image_shape is None else f"{data.name}, binarize {binarize}",
        test_labels=None if labels is None else labels[rows],
        test_factors=None if factors is None else factors[rows],
    )  # fmt: skip
    x = black_or_white(test, pixels) if binarize == "dynamic" else test  # as `batch` draws
    kept = None if state.best is None else state.best.epoch or None
    return save_figures(
        folder, state.kept, shown, x, state.history, rng=noise, format=format, kept_epoch=kept,
        write=partial(write, model=state.model_id),
    )  # fmt: skip
