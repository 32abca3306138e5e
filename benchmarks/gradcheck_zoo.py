"""Compare gradient checkers on the zoo: how often is a verdict wrong?

    python benchmarks/gradcheck_zoo.py [--seeds 20] [--tools NAME ...]

The zoo (tests/zoo) has layers from the textbooks, each with a right backward pass and several wrong
ones. A false alarm is a right one that is refused, a miss a wrong one that passes. A gradient that
is 1e-4 too large is counted separately. Every seed has its own point. Every tool checks the NumPy
functions, wrapped as its documentation says for a derivative written by hand, in float64 and with
its defaults. Those not installed are left out.

    numpy_vae.gradcheck_layer       by each method, on the layers to which it applies; "cannot be
                                    decided here" has not passed
    torch.autograd.gradcheck        torch.autograd.Function
    jax.test_util.check_grads       jax.custom_vjp and jax.pure_callback; order 1, reverse mode
    autograd.test_util.check_grads  primitive and defvjp; order 1, reverse mode, all inputs at once
    scipy.optimize.check_grad       Σ u y for one random u, of one flat vector. It returns the norm
                                    of the difference and leaves the verdict to its user: two
                                    thresholds

"Could not run" counts exceptions that are not a verdict. The output is
Markdown, for docs/gradcheck.md. Exit status 1 if a verdict of this package is wrong or missing.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from harness import installed

from numpy_vae.gradcheck import gradcheck_layer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from zoo import ZOO

Array = np.ndarray[Any, Any]
Arrays = Sequence[Array]
Rng = np.random.Generator
Forward = Callable[..., tuple[Any, Any]]  # as in tests/zoo/case.py
Backward = Callable[[Any, Any], Arrays]
Tool = Callable[[Forward, Backward, Arrays, Rng], bool]
Pass = tuple[Any, str, Backward]  # the case, the kind of its error, its backward pass

OURS = "numpy_vae"
RIGHT = ""  # the kind of error of a right gradient
SLIGHT = (
    "1e-4 off"  # the kind that every layer has; not for the sum of batch norm: its gradient is 0
)


def float64(values: Any) -> Any:
    """Return a copy of an array, or of a list of them."""
    if isinstance(values, list | tuple):
        return [float64(value) for value in values]
    return np.array(values, np.float64, order="C")


def ours(forward: Forward, backward: Backward, inputs: Arrays, rng: Rng, method: str) -> bool:
    return gradcheck_layer(forward, backward, inputs, method=method, rng=rng).ok


def torch_gradcheck(forward: Forward, backward: Backward, inputs: Arrays, rng: Rng) -> bool:
    import torch

    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *xs: Any) -> Any:
            y, ctx.cache = forward(*(float64(x.detach()) for x in xs))
            ctx.several = isinstance(y, list)
            tensors = tuple(map(torch.from_numpy, float64(y if ctx.several else [y])))
            return tensors if ctx.several else tensors[0]

        @staticmethod
        def backward(ctx: Any, *dys: Any) -> Any:
            upstream = float64(dys if ctx.several else dys[0])
            return tuple(map(torch.from_numpy, float64(backward(upstream, ctx.cache))))

    xs = [torch.from_numpy(x).requires_grad_() for x in float64(inputs)]
    return bool(torch.autograd.gradcheck(Layer.apply, xs, raise_exception=False))


def jax_check_grads(forward: Forward, backward: Backward, inputs: Arrays, rng: Rng) -> bool:
    import jax
    from jax.test_util import check_grads

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)

    def on_host(f: Callable[..., Any], like: Any) -> Callable[..., Any]:
        """Return f for JAX; the results have the shapes of `like`."""
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), like)
        return partial(jax.pure_callback, lambda *args: float64(f(*map(float64, args))), shapes)

    xs = float64(inputs)
    y = on_host(lambda *xs: forward(*xs)[0], float64(forward(*xs)[0]))
    dxs = on_host(lambda dy, *xs: backward(dy, forward(*xs)[1]), xs)
    layer = jax.custom_vjp(lambda *xs: y(*xs))
    layer.defvjp(lambda *xs: (y(*xs), xs), lambda xs, dy: tuple(dxs(dy, *xs)))
    return agrees(check_grads, layer, xs, order=1, modes=("rev",))


def hips_check_grads(forward: Forward, backward: Backward, inputs: Arrays, rng: Rng) -> bool:
    from autograd.extend import defvjp, primitive
    from autograd.test_util import check_grads

    np.random.seed(rng.integers(2**32))  # noqa: NPY002  of its direction

    def dx(i: int) -> Callable[..., Any]:
        """Return what `defvjp` takes for the input i."""
        return lambda y, *xs: lambda dy: float64(backward(float64(dy), forward(*xs)[1])[i])

    xs = float64(inputs)
    layer = primitive(lambda *xs: float64(forward(*xs)[0]))
    defvjp(layer, *map(dx, range(len(xs))))
    return agrees(check_grads(layer, tuple(range(len(xs))), modes=["rev"], order=1), *xs)


def agrees(check: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    """Return whether a check, whose verdict is an AssertionError, has passed."""
    try:
        check(*args, **kwargs)
    except AssertionError:
        return False
    return True


def scipy_check_grad(
    forward: Forward, backward: Backward, inputs: Arrays, rng: Rng, threshold: float
) -> bool:
    from scipy.optimize import check_grad

    def split(v: Array) -> list[Array]:
        parts = np.split(v, np.cumsum([np.size(x) for x in inputs])[:-1])
        return [part.reshape(np.shape(x)) for part, x in zip(parts, inputs, strict=True)]

    def flat(arrays: Any) -> Array:
        several = isinstance(arrays, list | tuple)
        return np.concatenate([np.ravel(a) for a in (arrays if several else [arrays])])

    def f(v: Array) -> float:
        return float(flat(u) @ flat(forward(*split(v))[0]))

    def gradient(v: Array) -> Array:
        return flat(float64(backward(float64(u), forward(*split(v))[1])))

    y = float64(forward(*inputs)[0])
    several = isinstance(y, list)
    u = [rng.standard_normal(a.shape) for a in y] if several else rng.standard_normal(y.shape)
    return bool(check_grad(f, gradient, flat(float64(inputs))) < threshold)


def slightly_wrong(backward: Backward) -> Backward:
    """Return a backward pass whose gradients are too large by 1e-4."""
    return lambda dy, cache: tuple((1 + 1e-4) * dx for dx in backward(dy, cache))


def all_passes() -> list[Pass]:
    """Return every backward pass of the zoo: right, slightly wrong, wrong."""
    passes: list[Pass] = []
    for case in ZOO:
        passes.append((case, RIGHT, case.backward))
        if case.name != "the sum of batch norm":
            passes.append((case, SLIGHT, slightly_wrong(case.backward)))
        passes += [(case, kind, case.wrong(kind)) for kind in case.errors]
    return passes


TOOLS: dict[str, tuple[str | None, Tool]] = {  # the package needed, and the function
    f"{OURS}, central": (None, partial(ours, method="central")),
    f"{OURS}, complex": (None, partial(ours, method="complex")),
    f"{OURS}, taylor": (None, partial(ours, method="taylor")),
    "torch.autograd.gradcheck": ("torch", torch_gradcheck),
    "jax.test_util.check_grads": ("jax", jax_check_grads),
    "autograd.test_util.check_grads": ("autograd", hips_check_grads),
    "scipy.optimize.check_grad < 1e-6": (None, partial(scipy_check_grad, threshold=1e-6)),
    "scipy.optimize.check_grad < 1e-4": (None, partial(scipy_check_grad, threshold=1e-4)),
}


@dataclass
class Tally:
    """The checks of one tool; counted by name where the verdict is wrong or missing."""

    right: int = 0  # checks of right gradients
    slight: int = 0
    wrong: int = 0
    seconds: float = 0.0
    alarms: Counter[str] = field(default_factory=Counter)
    misses: Counter[str] = field(default_factory=Counter)
    unseen: Counter[str] = field(default_factory=Counter)  # of the slightly wrong ones
    unable: Counter[str] = field(default_factory=Counter)

    def details(self) -> str:
        kinds = {
            "false alarms": self.alarms, "misses": self.misses, SLIGHT: self.unseen,
            "could not run": self.unable,
        }  # fmt: skip
        lines = [
            f"- {kind}: {'; '.join(f'{n} × {name}' for name, n in names.items())}"
            for kind, names in kinds.items() if names
        ]  # fmt: skip
        return "\n".join(fill(line, width=120, subsequent_indent="  ") for line in lines)


def run(tool: Tool, passes: Sequence[Pass], seeds: int) -> Tally:
    """Check every backward pass at a new point for each seed."""
    tally = Tally()
    start = time.perf_counter()
    for case, kind, backward in passes:
        name = f"{case.name} ({kind})" if kind not in (RIGHT, SLIGHT) else case.name
        tally.right += seeds * (kind == RIGHT)
        tally.slight += seeds * (kind == SLIGHT)
        tally.wrong += seeds * (kind not in (RIGHT, SLIGHT))
        errors = {RIGHT: tally.alarms, SLIGHT: tally.unseen}.get(kind, tally.misses)
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            try:
                passed = tool(case.forward, backward, case.inputs(rng), rng)
            except Exception as error:  # of any kind, in any tool or layer
                why = (str(error).splitlines() or [""])[-1][:80]
                tally.unable[f"{name}: {type(error).__name__}: {why}"] += 1
                continue
            if passed != (kind == RIGHT):
                errors[name] += 1
    tally.seconds = time.perf_counter() - start
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="default: 20")
    parser.add_argument("--tools", nargs="+", metavar="NAME", help="parts of names (default: all)")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # wrong gradients overflow
    packages = installed("numpy", "scipy", "torch", "jax", "autograd")
    passes = all_passes()
    tallies: dict[str, Tally] = {}
    for name, (package, tool) in TOOLS.items():
        if args.tools and not any(part in name for part in args.tools):
            continue
        if package and package not in packages:
            print(f"{name} is left out: {package} is not installed", file=sys.stderr)
            continue
        method = name.removeprefix(f"{OURS}, ")
        mine = [p for p in passes if method == name or method in p[0].methods]
        tallies[name] = run(tool, mine, args.seeds)
        print(f"{name}: {tallies[name].seconds:.0f} s", file=sys.stderr)
    planted = sum(len(case.errors) for case in ZOO)
    print(f"{len(ZOO)} layers, {planted} wrong gradients, {args.seeds} seeds")
    print(", ".join(f"{package} {number}" for package, number in packages.items()))
    print(f"\n| | false alarms | misses | misses of {SLIGHT} | could not run | ms a check |")
    print("|---|---|---|---|---|---|")
    for name, t in tallies.items():
        alarms, misses = f"{t.alarms.total()} of {t.right}", f"{t.misses.total()} of {t.wrong}"
        slight = f"{t.unseen.total()} of {t.slight}"
        ms = f"{1e3 * t.seconds / (t.right + t.wrong + t.slight):.1f}"
        print(f"| {name} | {alarms} | {misses} | {slight} | {t.unable.total()} | {ms} |")
    details = {name: tally.details() for name, tally in tallies.items()}
    for name in filter(details.get, details):
        print(f"\n{name}\n\n{details[name]}")
    return int(any(details[name] for name in details if name.startswith(OURS)))


if __name__ == "__main__":
    raise SystemExit(main())
