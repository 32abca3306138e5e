"""The settings of a training: one field each, and everything else follows from it."""

from dataclasses import asdict, fields, replace

import numpy as np
import pytest

from numpy_vae.__main__ import build_parser
from numpy_vae.training.recipe import SETTINGS, Recipe, explain

OTHERS = {  # a value that is not the default
    "epochs": 7, "batch_size": 9, "lr": 0.1, "schedule": "cosine", "average": True,
    "grad_clip": 2.0,
    "bound": "iwae", "samples": 2, "beta": 0.5, "warmup": 3, "output_bias": "data",
    "binarize": "dynamic", "validation": 40, "patience": 5, "evaluate_every": 2, "threads": 1,
}  # fmt: skip


def options():
    """Return the options of ``numpy-vae train`` by destination."""
    commands = next(a for a in build_parser()._actions if a.dest == "command")
    return {action.dest: action for action in commands.choices["train"]._actions}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_an_option_a_key_and_a_line_of_the_docstring(name):
    option = options()[name]
    assert (option.default is None and option.help == explain(name)) or name == "binarize"
    assert f"\n    {name} : {Recipe.__annotations__[name]}\n" in Recipe.__doc__
    assert "(default: " in explain(name)
    recipe = Recipe(**OTHERS)
    assert asdict(recipe)[name] == OTHERS[name] != getattr(Recipe, name)
    assert name in " ".join(recipe.words())


def test_settings_are_read_among_others_and_those_of_an_older_run_are_at_their_defaults():
    recipe = Recipe(**OTHERS)
    settings = {"data": "digits", **asdict(recipe)}
    assert Recipe.of(settings) == recipe
    del settings["evaluate_every"]  # as if the run were older than the setting
    assert Recipe.of(settings) == replace(recipe, evaluate_every=1)


def test_values_become_plain_ones():
    # A NumPy float64 would make float64 of a gradient, and JSON takes neither.
    recipe = Recipe(epochs=np.int64(3), beta=np.float32(0.5), lr=1)
    assert [type(v) for v in (recipe.epochs, recipe.beta, recipe.lr)] == [int, float, float]


def test_a_recipe_at_its_defaults_has_nothing_to_say():
    assert Recipe().words() == []
    assert Recipe(epochs=3, average=True).words() == ["epochs 3", "average"]
    assert Recipe(epochs=3, average=True).words(but=("epochs",)) == ["average"]


def test_a_flag_is_true_or_false():
    with pytest.raises(ValueError, match=r"^average is 1, must be True or False$"):
        Recipe(average=1)


def test_what_goes_together_is_checked():
    with pytest.raises(ValueError, match=r"^warmup is 5, must be a whole number from 0 to 4$"):
        Recipe(epochs=4, warmup=5)
    with pytest.raises(ValueError, match=r"^patience is 2, must be None where validation is 0"):
        Recipe(patience=2)


def test_every_field_has_a_setting():
    assert list(SETTINGS) == [f.name for f in fields(Recipe)]
