"""Change the mathematics, data, training or evaluation in one place; see if a test fails.

A mutant is a module of the package with one node of its syntax tree replaced: an operator, a sign,
a number, a comparison, an axis, the order of two arguments, a statement left out. Nothing on the
disk is touched (see planting.py). A mutant that no test tells from the code is a hole in the tests,
unless it means the same; then it stands in equivalent.py with the reason, and is run all the same.

The exit status is 0 if the tests kill all mutants but those in equivalent.py, 1 if another survives
or one of those is killed or no longer exists, and 2 if the tests fail on the code as it is.
"""

import argparse
import ast
import functools
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import planting
from equivalent import EQUIVALENT

MATHEMATICS = (
    "params", "layers", "posterior", "likelihood", "bounds", "blocks", "network", "scaling", "vae",
    "optim",
)  # fmt: skip
TRAINING = (
    "data.dataset", "data.mnist", "data.arrays", "data.binarize", "seeds",
    "training.evaluate", "training.state", "training.loop",
)  # fmt: skip
MODULES = MATHEMATICS + TRAINING
OWN = {"seeds": "loop", "training.state": "checkpoint"}  # whose tests are in the file of another
OTHERS = (  # the test files that use the mathematics
    "vae", "network", "linear", "bounds", "layers", "posterior", "likelihood", "params", "blocks",
    "optim", "gradcheck", "evaluate", "checkpoint", "loop", "files", "runs", "readme", "docs",
    "package", "counts", "scaling",
)  # fmt: skip
OTHERS_OF_TRAINING = (
    "output_bias", "team", "evaluate", "loop", "run", "recipe", "arrays", "binarize", "dataset",
    "mnist", "runs", "memory", "command_evaluate", "checkpoint", "mapped", "reading", "scaling",
    "overflow",
)  # fmt: skip

# What stands in place of an operator, a comparison or a function.
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Div, ast.Mod: ast.FloorDiv, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
NEIGHBOURS = {
    ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE), ast.Eq: (ast.NotEq,),
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
FUNCTIONS = {  # of NumPy and math
    "abs": "negative", "divide": "multiply", "exp": "expm1", "log": "log2", "log1p": "log",
    "multiply": "divide", "sqrt": "cbrt", "sum": "mean", "tanh": "arctan",
    "zeros": "ones", "zeros_like": "ones_like", "float32": "float64",
}  # fmt: skip
METHODS = {
    "sum": "mean", "mean": "sum", "min": "max", "max": "min",
    "startswith": "endswith", "endswith": "startswith",
}  # fmt: skip
BUILTINS = {"min": "max", "max": "min", "sum": "max"}
DROPPED_ATTRIBUTES = {"T", "real"}  # a.T -> a
DROPPED_METHODS = {"astype", "copy", "mean", "reshape", "sum"}  # a.sum(...) -> a
DROPPED_FUNCTIONS = {"float", "int", "reversed", "tuple"}  # reversed(a) -> a
ORDERED = {"cls", "divide", "full", "matmul", "normal"}  # besides the functions of the package

# A node of the first kind says nothing alone, and is shown in what is around it, of the second.
ATOMS = ast.Attribute | ast.Constant | ast.Name | ast.Slice | ast.UnaryOp | ast.keyword
READABLE = ast.expr | ast.keyword | ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Return


class Mutant(NamedTuple):
    """A module with one change in it."""

    key: str  # where and what, without the number of the line: under it a mutant is remembered
    module: str
    line: int
    text: str


def mutants(module: str, text: str | None = None) -> list[Mutant]:
    """Return every mutant of a module, in the order of the lines, each text once."""
    tree = ast.parse(planting.source(module) if text is None else text)
    found: dict[str, Mutant] = {}
    seen: Counter[str] = Counter()
    parts = [ast.unparse(part) for part in tree.body]  # only one of them changes at a time
    number = {part: i for i, part in enumerate(tree.body)}
    for place in _places(tree, _Place(module, (), tree, lambda new: None)):
        i = number[[*place.parents, place.node][1]]
        for new in list(_variants(place.node, place.parents)):
            before = place.reading()
            place.put(new)
            after, part = place.reading(new), ast.unparse(tree.body[i])
            place.put(place.node)
            changed = "\n\n".join([*parts[:i], part, *parts[i + 1 :]])
            if part == parts[i] or changed in found:
                continue
            key = f"{place.scope}: {before} -> {after}"
            seen[key] += 1
            key += f" ({seen[key]})" if seen[key] > 1 else ""
            found[changed] = Mutant(key, module, place.node.lineno, changed)
    return sorted(found.values(), key=lambda mutant: mutant.line)


class _Place(NamedTuple):
    """A node of the tree, what it lies in, and how another one is put there."""

    scope: str  # module, class and function
    parents: tuple[ast.AST, ...]  # outermost first
    node: ast.AST
    put: Callable[[ast.AST], None]

    def reading(self, new: ast.AST | None = None) -> str:
        """Return the smallest part of the source around the node that can be read by itself."""
        chain = [*self.parents, self.node]
        while isinstance(chain[-1], ATOMS) and isinstance(chain[-2], READABLE):
            chain.pop()
        above, part = chain[-2], new or self.node if chain[-1] is self.node else chain[-1]
        if isinstance(above, ast.arguments):  # a default, by the name of its argument
            pairs = [
                *zip(above.args[::-1], above.defaults[::-1], strict=False),
                *zip(above.kwonlyargs, above.kw_defaults, strict=True),
            ]
            name = next(a.arg for a, default in pairs if default is part)
            return f"{name}={ast.unparse(part)}"
        if isinstance(part, ast.Raise):  # without the words of the message
            return f"raise {ast.unparse(part.exc.func)}(...)"
        return ast.unparse(part)


def _places(node: ast.AST, here: _Place) -> Iterator[_Place]:
    """Yield the nodes under `node` that may be changed: code, neither prose nor types."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        here = here._replace(scope=f"{here.scope}.{node.name}")
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns"):
            continue
        for i, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST) and not _is_prose(child):
                put = functools.partial(setattr, node, field)
                if i is not None:
                    put = functools.partial(value.__setitem__, i)
                place = here._replace(parents=(*here.parents, node), node=child, put=put)
                yield place
                yield from _places(child, place)


def _is_prose(node: ast.AST) -> bool:
    match node:
        case ast.JoinedStr() | ast.Expr(ast.Constant()) | ast.Assign([ast.Name("__all__")]):
            return True
        case ast.BinOp(op=ast.BitOr(), right=ast.Constant(None)):  # a type, in an alias of one
            return True
        case ast.Tuple(elements):  # a row of a table: a test could only repeat it
            values = [x.value for x in elements if isinstance(x, ast.Constant)]
            return len(values) == len(elements) and any(isinstance(v, str) for v in values)
    return False


def _variants(node: ast.AST, parents: tuple[ast.AST, ...]) -> Iterator[ast.AST]:
    """Yield what may stand in place of a node."""
    match node:
        case ast.BinOp(left, op, right):
            if type(op) in OPERATORS:
                yield ast.BinOp(left, OPERATORS[type(op)](), right)
            if not isinstance(op, ast.Add | ast.Mult):
                yield ast.BinOp(right, op, left)
            yield left
            yield right
        case ast.UnaryOp(ast.USub() | ast.Not(), operand):
            yield operand
        case ast.Compare(left, ops, comparators):
            for i, op in enumerate(ops):
                for new in NEIGHBOURS[type(op)]:
                    yield ast.Compare(left, [*ops[:i], new(), *ops[i + 1 :]], comparators)
        case ast.BoolOp(op, values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
            for i in range(len(values)):
                yield ast.BoolOp(op, values[:i] + values[i + 1 :])  # also of one value
        case ast.Constant(value):
            for new in _other_values(value):
                if new != -value or not isinstance(parents[-1], ast.UnaryOp):  # not --1
                    yield ast.Constant(new)
        case ast.Name(name, ast.Load()) if name in BUILTINS:
            yield ast.Name(BUILTINS[name], ast.Load())
        case ast.Attribute(value, name, ast.Load()):
            others = FUNCTIONS if _is_library(value) else METHODS
            if name in others:
                yield ast.Attribute(value, others[name], ast.Load())
            if name in DROPPED_ATTRIBUTES:
                yield value
        case ast.Call(function, arguments, keywords):
            name = ast.unparse(function).rpartition(".")[2]
            if isinstance(function, ast.Attribute):
                if _is_library(function.value) and len(arguments) > 1:
                    yield ast.Call(function, arguments[:-1], keywords)
                elif name in DROPPED_METHODS:
                    yield function.value
            elif name in DROPPED_FUNCTIONS:
                yield arguments[0]
            for i in range(len(keywords)):
                yield ast.Call(function, arguments, keywords[:i] + keywords[i + 1 :])
            if name in ORDERED | _own_functions():
                for swapped in _swaps(arguments):
                    yield ast.Call(function, swapped, keywords)
        case ast.Tuple(elements, context) if isinstance(parents[-1], ast.Assign | ast.Return):
            if not all(isinstance(element, ast.Constant) for element in elements):
                for swapped in _swaps(elements):
                    yield ast.Tuple(swapped, context)
        case ast.AugAssign(target, op, value):
            if type(op) in OPERATORS:
                yield ast.AugAssign(target, OPERATORS[type(op)](), value)
            yield ast.Pass()
        case ast.Expr(ast.Call()) | ast.Raise():
            yield ast.Pass()
        case ast.Assign([ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()
    match parents[-1]:  # a condition that has no operator of its own
        case ast.If(test=test) | ast.IfExp(test=test) if test is node:
            if not isinstance(node, ast.Compare | ast.BoolOp | ast.UnaryOp):
                yield ast.UnaryOp(ast.Not(), node)


def _is_library(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("np", "math")


def _other_values(value: object) -> Iterator[object]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        small = isinstance(value, int) or (value.is_integer() and abs(value) < 100)
        yield value + 1 if small else 2 * value
        if value == 1:
            yield value - 1
        if value:
            yield -value


def _swaps(items: list[ast.expr]) -> Iterator[list[ast.expr]]:
    """Yield the list with two neighbours exchanged, for each pair of them."""
    for i in range(len(items) - 1):
        yield [*items[:i], items[i + 1], items[i], *items[i + 2 :]]


@functools.cache
def _own_functions() -> frozenset[str]:
    """Return the names of the functions and classes that the modules define."""
    trees = (ast.parse(planting.source(module)) for module in MODULES)
    nodes = (node for tree in trees for node in ast.walk(tree))
    return frozenset(n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef))


def survivors(
    candidates: Iterable[Mutant],
    workers: int | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> list[Mutant]:
    """Return the mutants that no test kills: first those of its own module, then the others'."""
    left = list(candidates)
    for stage in "own", "other":
        jobs = (planting.Job({m.module: m.text}, _tests(m.module, stage), True) for m in left)
        alive = []
        start, tried = time.monotonic(), left
        outcomes = planting.run_all(jobs, workers)
        for i, (mutant, outcome) in enumerate(zip(tried, outcomes, strict=True), start=1):
            if not outcome.caught:
                alive.append(mutant)
            seconds = time.monotonic() - start
            by = outcome.crash or next(iter(outcome.failed), "nothing")
            report(f"{stage} tests, {i}/{len(tried)}, {seconds:.0f} s: {mutant.key}: {by}")
        left = alive
    return left


def _tests(module: str, stage: str) -> tuple[str, ...]:
    others = OTHERS_OF_TRAINING if module in TRAINING else OTHERS
    own = OWN.get(module, module.rpartition(".")[2])
    names = (own,) if stage == "own" else [name for name in others if name != own]
    return tuple(f"tests/test_{name}.py" for name in names)


def table(candidates: list[Mutant], alive: list[Mutant], seconds: float) -> str:
    """Return the score: for each module how many mutants there are, and what became of them."""
    columns = "{:18}{:>9}{:>9}{:>12}{:>10}"
    lines = [columns.format("module", "mutants", "killed", "equivalent", "survived")]
    for name in *dict.fromkeys(mutant.module for mutant in candidates), "total":
        chosen = [name in (mutant.module, "total") for mutant in candidates]
        keys = [mutant.key for mutant in alive if name in (mutant.module, "total")]
        equivalent = sum(key in EQUIVALENT for key in keys)
        killed = sum(chosen) - len(keys)
        lines.append(columns.format(name, sum(chosen), killed, equivalent, len(keys) - equivalent))
    share = killed / max(1, sum(chosen) - equivalent)
    lines.append(f"{share:.1%} of those that are not equivalent are killed; {seconds:.0f} s")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n\n")[0],
        epilog=__doc__.rpartition("\n\n")[2],
    )
    parser.add_argument(
        "modules", nargs="*", metavar="MODULE", help=f"{', '.join(MODULES)}; default: all"
    )
    parser.add_argument("--only", metavar="TEXT", default="", help="mutants with TEXT in their key")
    parser.add_argument("--list", action="store_true", help="name the mutants, and run none")
    parser.add_argument("--survivors", action="store_true", help="print only what is wrong")
    parser.add_argument("--workers", type=int, help="tests at a time (default: one a core)")
    options = parser.parse_args(arguments)
    if unknown := set(options.modules) - set(MODULES):
        parser.error(f"MODULE is {', '.join(unknown)}, must be of {', '.join(MODULES)}")
    modules = options.modules or MODULES
    candidates = [m for name in modules for m in mutants(name) if options.only in m.key]
    if not candidates:
        parser.error(f"TEXT is {options.only!r}, must be part of a key: see --list")
    if options.list:
        for mutant in candidates:
            note = "  (equivalent)" if mutant.key in EQUIVALENT else ""
            print(f"{mutant.module}.py:{mutant.line}: {mutant.key}{note}")
        return 0

    start = time.monotonic()
    if failing := _failing_tests(modules):
        print(f"without a mutant the tests fail: {failing}")
        return 2
    report = functools.partial(print, file=sys.stderr, flush=True)
    alive = survivors(candidates, options.workers, *([] if options.survivors else [report]))
    if not options.survivors:
        print(table(candidates, alive, time.monotonic() - start))
    wrong = faults(modules, candidates, alive)
    for line in wrong:
        print(line)
    return 1 if wrong else 0


def _failing_tests(modules: Iterable[str]) -> str:
    """Return which tests fail on the code as it is: they would kill every mutant."""
    sources = {module: ast.unparse(ast.parse(planting.source(module))) for module in modules}
    files = dict.fromkeys(f for m in modules for s in ("own", "other") for f in _tests(m, s))
    outcome = planting.run(planting.Job(sources, tuple(files)))
    return outcome.crash or ", ".join(outcome.failed)


def faults(
    modules: Iterable[str], candidates: Iterable[Mutant], alive: Iterable[Mutant]
) -> list[str]:
    """Return what makes the run of `candidates` a failure, a line each."""
    existing = {mutant.key for module in modules for mutant in mutants(module)}
    listed = [key for key in EQUIVALENT if re.split("[.:]", key)[0] in modules]
    killed = {mutant.key for mutant in candidates} - {mutant.key for mutant in alive}
    return [
        *(f"survives: {m.module}.py:{m.line}: {m.key}" for m in alive if m.key not in EQUIVALENT),
        *(f"is killed, and listed as equivalent: {key}" for key in listed if key in killed),
        *(
            f"is listed as equivalent, and no mutant: {key}"
            for key in listed
            if key not in existing
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
