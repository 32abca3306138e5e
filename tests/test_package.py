"""What holds for the package as a whole: its imports, its public names, its layering."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy_vae

PACKAGE = Path(numpy_vae.__file__).parent
ORDER = [
    "checks", "files", "params", "layers", "posterior", "likelihood", "network", "bounds", "vae",
    "optim", "gradcheck", "modelcheck", "data", "digits", "evaluate", "train", "checkpoint", "runs",
    "progress", "study.report", "plots", "figures", "explorer", "study.tied",
    "study.concatenated", "study.logvar", "study.sampling", "study.kl", "study.reductions",
    "study.logits", "study.bounds", "study.collapse", "study.checking", "study.backward",
    "commands.arguments", "commands.inputs",
    "commands.plot", "commands.train", "commands.evaluate", "commands.sample", "commands.encode",
    "commands.explore", "commands.gradcheck", "commands.study", "__main__",
]  # fmt: skip


def test_import_loads_neither_matplotlib_nor_scipy():
    code = (
        "import sys, numpy_vae\n"
        "print([m for m in ('matplotlib', 'scipy', 'urllib.request') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_the_public_contract():
    from numpy_vae import (  # noqa: F401
        VAE,
        Adam,
        Params,
        fit,
        gradcheck,
        load_digits,
        load_mnist,
        train_epochs,
    )

    for name in numpy_vae.__all__:
        assert getattr(numpy_vae, name).__doc__
    assert (PACKAGE / "py.typed").exists()


def name_of(path):
    """Return the dotted name of a module within the package, such as commands.train."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


MODULES = {name_of(path): path for path in PACKAGE.rglob("*.py") if path.stem != "__init__"}


def imports(name):
    """Return the modules of this package that a module of it imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        module = node.module or ""
        if node.level:
            above = name.split(".")[: -node.level]  # the package that the dots stand for
            module = ".".join([*above, *filter(None, [module])])
        elif module.startswith("numpy_vae"):
            module = module.removeprefix("numpy_vae").lstrip(".")
        else:
            continue
        found |= {module, *(f"{module}.{alias.name}".lstrip(".") for alias in node.names)}
    return found & set(ORDER)


def test_imports_run_downwards_and_form_no_cycle():
    assert set(MODULES) == set(ORDER)
    for i, module in enumerate(ORDER):
        assert imports(module) <= set(ORDER[:i]), module


def test_the_imports_of_a_module_are_seen():
    assert {"data", "vae", "commands.inputs"} <= imports("commands.train")
    assert {"commands.train", "commands.inputs"} <= imports("__main__")
    assert imports("vae") >= {"posterior", "bounds", "params"}


FOR_TYPES = "if TYPE_CHECKING:\n    from matplotlib.figure import Figure\n"


def test_only_plots_and_figures_import_matplotlib_and_nothing_imports_an_autograd():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        drawing = path.stem in ("plots", "figures")
        at_run_time = text.replace(FOR_TYPES, "")  # an experiment draws on the figure it is given
        assert ("import matplotlib" in at_run_time or "from matplotlib" in at_run_time) == drawing
        for name in ("torch", "jax", "autograd", "tensorflow"):
            assert f"import {name}" not in text and f"from {name}" not in text


def test_no_global_random_state():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "random.seed" not in text and "RandomState" not in text
