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
    "progress", "plots", "arguments", "__main__",
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


def imports(path):
    """Return the modules of this package that `path` imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("numpy_vae"):
            found.add(node.module.removeprefix("numpy_vae").lstrip("."))
    return found & set(ORDER)


def test_imports_run_downwards_and_form_no_cycle():
    assert {path.stem for path in PACKAGE.glob("*.py")} == {*ORDER, "__init__"}
    for i, module in enumerate(ORDER):
        assert imports(PACKAGE / f"{module}.py") <= set(ORDER[:i]), module


def test_only_plots_imports_matplotlib_and_nothing_imports_an_autograd():
    for path in PACKAGE.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert ("import matplotlib" in text or "from matplotlib" in text) == (path.stem == "plots")
        for name in ("torch", "jax", "autograd", "tensorflow"):
            assert f"import {name}" not in text and f"from {name}" not in text


def test_no_global_random_state():
    for path in PACKAGE.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "random.seed" not in text and "RandomState" not in text
