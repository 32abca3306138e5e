"""Write the tables and the figure of docs/speed.md from the reports of the benchmarks.

    python docs/make/speed.py

The reports are docs/speed/*.json. The benchmarks write them with --json, by the commands that are
on the page. A table goes between ``<!-- NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from contestants import FLOORS, OURS, SCRIPTS, SPLIT, fastest, floor, peers
from epoch import EXAMPLE
from harness import Results, paired
from scaling import STEP
from step import EARLY, EVALUATION, LATE, SIZE, UNFLUSHED

DOCS = Path(__file__).resolve().parent.parent
PAGE, FIGURE, FOLDER = DOCS / "speed.md", DOCS / "figures" / "speed.png", DOCS / "speed"
SHOWN_LINES = 24
PEERS = "a framework"
COLORS = {OURS: "tab:red", SCRIPTS[0]: "tab:blue", PEERS: "tab:gray"}


def read(name: str) -> dict[str, Any]:
    """Return the report of one benchmark."""
    report: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return report


def table(rows: list[list[str]]) -> str:
    """Return a Markdown table; the first row is its heading."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def of_machine() -> str:
    """Return the machine that everything was measured on."""
    report = read("step")
    facts = report["machine"]
    threads: dict[str, Any] = {}
    for found in next(iter(report["batches"].values())).values():
        threads |= found["threads"]
    notes = {"torch": " ({torch} threads)", "jax": " ({jax})"}
    packages = ", ".join(
        f"{name} {facts[name]}{notes.get(name, '').format_map(threads)}"
        for name in ("torch", "jax", "autograd")
        if name in facts
    )
    return (
        f"{facts['processor']}, {facts['cores']} cores of a shared machine. Python"
        f" {facts['python']}, NumPy {facts['numpy']} ({facts['blas']}), {packages}."
    )


def noise(batches: Mapping[str, Results]) -> float:
    """Return the largest relative difference between two contestants that run the same code.

    This package chooses its threads by the size of the batch; its twin is given the same number.
    """
    found = [0.0]
    for results in batches.values():
        for twin in f"{OURS}, one thread", f"{OURS}, two threads":
            if results[twin]["threads"]["team"] == results[OURS]["threads"]["team"]:
                found.append(abs(paired(results, OURS, twin) - 1))
    return max(found)


def faster_peers(batches: Mapping[str, Results]) -> dict[str, list[str]]:
    """Return the peers that are faster than this package, for each batch size."""
    return {
        size: [name for name in peers(results) if paired(results, OURS, name) > 1]
        for size, results in batches.items()
    }


def of_step() -> str:
    """Milliseconds of a step, with the floor in bold; ratios to the floor and to ours."""
    batches = read("step")["batches"]
    floors = {size: floor(results) for size, results in batches.items()}
    rows = [["a step"] + [f"batch {size}: ms" for size in batches]]
    rows[0] += [f"{size}: x floor" for size in batches] + [f"{size}: ours / it" for size in batches]
    for name in next(iter(batches.values())):
        row = [name]
        for size, results in batches.items():
            bold = "**" * (name == floors[size])
            row.append(f"{bold}{results[name]['median']:.2f}{bold}")
        row += [f"{paired(results, name, floors[n]):.2f}" for n, results in batches.items()]
        row += [f"{paired(results, OURS, name):.2f}" for results in batches.values()]
        rows.append(row)
    limits = ", ".join(
        f"{paired(results, fastest(results, SCRIPTS), OURS):.2f} at batch {size}"
        for size, results in batches.items()
    )
    faster = [
        f"- at batch {size}: {' / '.join(names) or 'none'}"
        for size, names in faster_peers(batches).items()
    ]
    return "\n".join([
        table(rows),
        "",
        "The floor is in bold: the faster of the two ways to compute the bare matrix products.",
        f"The faster of the two scripts takes this share of the time of `{OURS}`: {limits}.",
        "",
        f"These are faster than `{OURS}`:",
        "",
        *faster,
    ])  # fmt: skip


def of_steady() -> str:
    """A late step beside an early one, and the evaluation beside its products."""
    report = read("step")
    after, sampling = report["after"], report["evaluation"]
    rows = [["", "ms", "compared with", "ms", "ratio"]]

    def add(what: str, results: Results, name: str, beside: str, other: str, digits: int) -> None:
        mine, its = (f"{results[n]['median']:.{digits}f}" for n in (name, other))
        rows.append([what, mine, beside, its, f"{paired(results, name, other):.2f}"])

    for name in LATE, UNFLUSHED:
        add(f"a step at batch {SIZE} {name}", after, name, EARLY, EARLY, 2)
    lowest = floor(sampling)
    add("log p(x) of 100 images, per sample", sampling, EVALUATION, f"its {lowest}", lowest, 3)
    counts = [["denormal numbers", "in M", "in V"]]
    for name, result in after.items():
        counts.append([name, str(result["denormals"]["M"]), str(result["denormals"]["V"])])
    return f"{table(rows)}\n\n{table(counts)}"


def of_epoch() -> str:
    """Seconds of an epoch of MNIST."""
    rows = [["an epoch of MNIST, 60 000 images", "s", "fastest", "ours / it", "loss"]]
    for name, result in read("epoch")["contestants"].items():
        figures = result["median"], result["fastest"], result["ratio"], result["loss"][-1]
        rows.append([name, *(f"{figure:.2f}" for figure in figures)])
    return table(rows)


def of_scaling() -> str:
    """The cost of a step by batch, width, depth and samples, and of an image by the data's size."""
    report = read("scaling")
    tables = []
    for name in "batch", "width", "depth", "samples":
        rows = [[name, "parameters", "step, ms", "products, ms", "ratio"]]
        for label, found in report[name].items():
            results = found["results"]
            lowest = floor(results)
            rows.append([
                label,
                f"{found['parameters']:,}".replace(",", " "),
                f"{results[STEP]['median']:.2f}",
                f"{results[lowest]['median']:.2f}{'*' * (lowest == SPLIT)}",
                f"{paired(results, STEP, lowest):.2f}",
            ])  # fmt: skip
        tables.append(table(rows))
    rows = [["images", "µs per image", "memory of its own, MiB"]]
    for label, found in report["data"].items():
        rows.append([label, f"{found['median']:.1f}", f"{found['own_mib'] or math.nan:.0f}"])
    return "\n\n".join([*tables, table(rows)])


def of_ops() -> str:
    """The lines that take most of a step."""
    report = read("ops")
    rows = [["ms", "share", "line", "source"]]
    for line in report["lines"][:SHOWN_LINES]:
        share = line["ms"] / report["traced_ms"]
        source = line["source"].replace("|", "\\|")
        rows.append([f"{line['ms']:.3f}", f"{share:.0%}", line["file"], f"`{source}`"])
    rest = sum(line["ms"] for line in report["lines"][SHOWN_LINES:])
    rows.append([f"{rest:.3f}", f"{rest / report['traced_ms']:.0%}", "", "all other lines"])
    return (
        f"A step at batch {report['settings']['batch']} takes {report['step_ms']:.2f} ms, and "
        f"{report['traced_ms']:.2f} ms while it is traced. Its matrix products alone take "
        f"{report['products_ms']:.2f} ms.\n\n" + table(rows)
    )


def of_startup() -> str:
    """Milliseconds of fresh interpreters."""
    report = read("startup")
    rows = [["a fresh interpreter", "ms"]]
    rows += [[f"`{name}`", f"{ms:.0f}"] for name, ms in report["medians"].items()]
    rows.append(["`import numpy_vae` beyond `import numpy`", f"{report['beyond_numpy']:.0f}"])
    return table(rows)


def of_targets() -> str:
    """The targets, and whether they are met."""
    step, epoch, startup = read("step"), read("epoch"), read("startup")
    rows = [["target, on two cores", "measured", ""]]

    def add(what: str, found: float, most: float, unit: str = "", slack: float = 0.0) -> None:
        verdict = "met" if found <= most else "**missed**"
        if slack and abs(found / most - 1) <= slack:
            verdict += f", within the noise of {slack:.0%}".replace("%", " %")
        rows.append([what, f"{found:.3f}{unit}", verdict])

    batches = step["batches"]
    slack = noise(batches)
    for size, results in batches.items():
        peer = fastest(results, peers(results))
        what = f"batch {size}: at most 1.0 of the fastest peer, {peer}"
        add(what, paired(results, OURS, peer), 1.0, slack=slack)
    eager = paired(batches["128"], OURS, "PyTorch eager, default Adam")
    add("batch 128: at most 0.6 of PyTorch eager, default Adam", eager, 0.6, slack=slack)
    for size, most in ("128", 1.8), ("512", 1.5):
        lowest = floor(batches[size])
        what = f"batch {size}: at most {most} of the bare {lowest}"
        add(what, paired(batches[size], OURS, lowest), most, slack=slack)
    example = epoch["contestants"][EXAMPLE]["ratio"]
    add("an epoch of MNIST: at most a third of PyTorch's example", example, 1 / 3, slack=slack)
    late = paired(step["after"], LATE, EARLY)
    add("a step after 20 000 steps: at most 1.05 of one after 1000", late, 1.05, slack=slack)
    beyond = startup["beyond_numpy"]
    add("`import numpy_vae`: at most 30 ms beyond `import numpy`", beyond, 30, " ms")
    sampling = step["evaluation"]
    ratio = paired(sampling, EVALUATION, floor(sampling))
    add("log p(x) by importance sampling: at most 2.5 of its products", ratio, 2.5)
    return table(rows)


TABLES = {
    "machine": of_machine, "step": of_step, "targets": of_targets, "steady": of_steady,
    "epoch": of_epoch, "scaling": of_scaling, "ops": of_ops, "startup": of_startup,
}  # fmt: skip


def filled(page: str) -> str:
    """Return the page with all its tables as the reports have them."""
    for name, make in TABLES.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        found = pattern.findall(page)
        if len(found) != 1:
            raise ValueError(f"{PAGE.name} has {len(found)} places for the table {name}, must be 1")
        begin, end = found[0]
        page = pattern.sub("".join([begin, make(), "\n", end]).replace("\\", r"\\"), page)
    return page


def draw() -> None:
    """Draw every contestant's step as a multiple of the floor, at each batch size."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    batches = read("step")["batches"]
    names = [name for name in next(iter(batches.values())) if name not in FLOORS]
    figure, axes = plt.subplots(
        1, len(batches), figsize=(10, 3.4), sharey=True, layout="constrained"
    )
    for ax, (size, results) in zip(axes, batches.items(), strict=True):
        lowest = floor(results)
        widths = [paired(results, name, lowest) for name in names]
        colors = [
            COLORS[OURS if name.startswith(OURS) else SCRIPTS[0] if name in SCRIPTS else PEERS]
            for name in names
        ]
        bars = ax.barh(names, widths, color=colors, height=0.7)
        ax.bar_label(bars, [f"{width:.2f}" for width in widths], padding=3, fontsize=8)
        ax.axvline(1, color="black", linewidth=1)
        title = f"batch {size}: floor {results[lowest]['median']:.2f} ms"
        ax.set(title=title, xlim=(0, 1.22 * max(widths)))
        ax.tick_params(axis="y", length=0)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    keys = [Patch(color=color, label=name) for name, color in COLORS.items()]
    line = Line2D([], [], color="black", linewidth=1, label="bare matrix products")
    figure.legend(
        handles=[*keys, line], loc="outside upper center", ncols=4, frameon=False, fontsize=9
    )
    figure.supxlabel("a step as a multiple of its bare matrix products", fontsize=10)
    figure.savefig(FIGURE, dpi=120)
    plt.close(figure)


def main() -> None:
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    draw()
    print(f"written: {PAGE.name}, {FIGURE.name}")


if __name__ == "__main__":
    main()
