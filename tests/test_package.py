"""What holds for the package as a whole: its imports, its public names, its layering."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy_vae

PACKAGE = Path(numpy_vae.__file__).parent
ORDER = [
    "starting", "checks", "files", "seeds",
    "params", "layers", "posterior", "likelihood", "bounds", "blocks", "network", "scaling",
    "vae",
    "memory", "optim",
    "gradcheck.report", "gradcheck.nested", "gradcheck.line", "gradcheck.differences",
    "gradcheck.verdict", "gradcheck.taylor", "gradcheck.check", "gradcheck.layer",
    "gradcheck.model", "data.mapped", "data.dataset",
    "data.idx", "data.members", "data.text", "data.mat",
    "data.pictures", "data.readers", "data.labels", "data.arrays",
    "data.mnist", "data.digits", "data.binarize", "data.load",
    "training.team", "training.evaluate", "training.recipe", "training.state",
    "training.overflow", "training.loop",
    "figures.style", "figures.mosaics", "figures.plots", "figures.tables", "figures.of_a_run",
    "figures.explorer",
    "runs.owned", "runs.checkpoint", "runs.directory", "runs.images", "runs.run", "runs.progress",
    "study.report", "study.linear",
    "study.drawing", "study.pictures", "study.training", "study.tied",
    "study.concatenated", "study.logvar", "study.sampling", "study.kl", "study.reductions",
    "study.logits", "study.bounds", "study.collapse", "study.checking", "study.backward",
    "study.slips", "study.exercise",
    "commands.arguments", "commands.inputs",
    "commands.plot", "commands.train", "commands.evaluate", "commands.sample", "commands.encode",
    "commands.score", "commands.reconstruct", "commands.decode",
    "commands.explore", "commands.gradcheck", "commands.study", "__main__",
]  # fmt: skip


def test_neither_the_package_nor_its_command_line_imports_what_it_may_not_need():
    code = (
        "import sys, numpy_vae.__main__\n"
        "numpy_vae.__main__.build_parser()\n"
        "heavy = 'matplotlib', 'scipy', 'urllib.request', 'numpy_vae.study'\n"
        "print([m for m in heavy if m in sys.modules])\n"
        "import numpy_vae.study\n"
        "print('matplotlib' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\nFalse\n"


def test_a_folder_of_its_name_does_not_hide_the_package(tmp_path):
    # Such as the clone, seen from the folder that holds it: see package_dir in setup.cfg.
    (tmp_path / "numpy_vae").mkdir()
    code = "from numpy_vae import VAE"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


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


class _ForTypes(ast.NodeTransformer):
    """Takes out what only a type checker reads."""

    def visit_If(self, node):
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)


def at_run_time(path):
    """Return the nodes of a module that are there when it runs."""
    return list(ast.walk(_ForTypes().visit(ast.parse(path.read_text(encoding="utf-8")))))


def imports(name):
    """Return the modules of this package that a module of it imports, anywhere in it."""
    found = set()
    for node in at_run_time(MODULES[name]):
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
    assert {"scaling", "runs.run", "commands.inputs"} <= imports("commands.train")
    assert {"commands.train", "commands.inputs"} <= imports("__main__")
    assert imports("vae") >= {"posterior", "bounds", "params"}


def test_only_what_draws_imports_matplotlib_and_nothing_imports_an_autograd():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        # An experiment of the study is given its figure.
        drawing = path.stem in ("style", "mosaics", "plots", "tables", "of_a_run", "drawing")
        named = "\n".join(
            ast.unparse(n) for n in at_run_time(path) if isinstance(n, ast.Import | ast.ImportFrom)
        )
        assert ("import matplotlib" in named or "from matplotlib" in named) == drawing
        for name in ("torch", "jax", "autograd", "tensorflow"):
            assert f"import {name}" not in text and f"from {name}" not in text


def test_no_global_random_state():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "random.seed" not in text and "RandomState" not in text
