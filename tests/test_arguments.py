"""What the command line takes: the readers of values, and the defaults."""

import argparse

import pytest

from numpy_vae.__main__ import build_parser
from numpy_vae.commands.arguments import path, real, whole, widths
from numpy_vae.commands.train import recipe_of


def test_numbers_are_read_within_their_bounds():
    assert whole(1, 5)("5") == 5 and whole(0, 5)("0") == 0
    assert real(0, 1, open_below=False)("0") == 0.0 and real(0, 1, open_below=True)("1e-3") == 1e-3
    assert type(whole(1, 5)("3")) is int and type(real(0, 1, open_below=False)("1")) is float


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (whole(1, 5), "6", "'6' must be a whole number from 1 to 5"),
        (whole(1, 5), "2.0", "'2.0' must be a whole number from 1 to 5"),
        (real(0, 1, open_below=True), "0", "'0' must be a number greater than 0 and at most 1"),
        (real(0, 1, open_below=False), "x", "'x' must be a number at least 0 and at most 1"),
        (widths, "7,,8", "'' must be a whole number from 1 to 65536"),
        (path, "", "'' must not be empty"),
    ],
)
def test_what_is_out_of_them_is_refused(read, text, message):
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        read(text)


def test_widths():
    assert widths("none") == () and widths("400") == (400,) and widths("200,100") == (200, 100)


def test_the_defaults_of_train_are_the_plain_method():
    args = build_parser().parse_args(["train"])
    given = {name: value for name, value in vars(args).items() if value is not None}
    assert given.keys() == {"command", "execute"}
    recipe = recipe_of(args)
    assert (recipe.bound, recipe.samples, recipe.beta, recipe.warmup) == ("elbo", 1, 1.0, 0)
    assert (recipe.schedule, recipe.average, recipe.output_bias) == ("constant", False, "zero")
    assert (recipe.validation, recipe.evaluate_every, recipe.epochs) == (0, 1, 40)
    assert recipe.binarize == "dynamic"
    grey = build_parser().parse_args(["train", "--likelihood", "gaussian"])
    assert recipe_of(grey).binarize == "none"


def test_the_defaults_of_evaluate():
    args = build_parser().parse_args(["evaluate", "run"])
    assert (args.samples, args.images, args.on, args.seed) == (5000, None, "test", 0)
    assert args.json is False and args.data_dir is None
