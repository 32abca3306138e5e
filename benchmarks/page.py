"""Write the tables and the figure of docs/speed.md from what the benchmarks have measured.

    python benchmarks/page.py

The figures are those of docs/speed/*.json, which the benchmarks write with --json: the commands
stand on the page. A table is what lies between ``<!-- NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from step import paired

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE, FIGURE, FOLDER = DOCS / "speed.md", DOCS / "figures" / "speed.png", DOCS / "speed"
FLOOR, OURS = "matrix products", "numpy_vae"
SHOWN_LINES = 24


def read(name: str) -> dict[str, Any]:
    """Return the report of one benchmark."""
    report: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return report


def table(rows: list[list[str]]) -> str:
    """Return a Markdown table; the first row is its heading."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def of_machine() -> str:
    """The machine that all figures come from."""
    facts = read("step")["machine"]
    packages = ", ".join(f"{n} {facts[n]}" for n in ("torch", "jax", "autograd") if n in facts)
    return (
        f"{facts['processor']}, {facts['cores']} cores of a shared machine; Python"
        f" {facts['python']}, NumPy {facts['numpy']} ({facts['blas']}); {packages}."
    )


def of_step() -> str:
    """Milliseconds of a step, and ratios within a round to the floor and to ours."""
    batches = read("step")["batches"]
    rows = [["a step"] + [f"batch {size}: ms" for size in batches]]
    rows[0] += [f"{size}: x floor" for size in batches] + [f"{size}: ours / it" for size in batches]
    for name in next(iter(batches.values())):
        rows.append(
            [name]
            + [f"{results[name]['median']:.2f}" for results in batches.values()]
            + [f"{paired(results, name, FLOOR):.2f}" for results in batches.values()]
            + [f"{paired(results, OURS, name):.2f}" for results in batches.values()]
        )
    return table(rows)


def of_steady() -> str:
    """A step late in training beside an early one, and the evaluation beside its products."""
    report = read("step")
    late, sampling = report["after"], report["evaluation"]
    return table(
        [
            ["", "ms", "beside", "ms", "ratio"],
            ["a step at batch 128 after 20 000 steps", f"{late['20000']:.2f}", "after 1000",
             f"{late['1000']:.2f}", f"{late['20000'] / late['1000']:.2f}"],
            ["log p(x), a sample of 100 images", f"{sampling['evaluation']:.3f}",
             "its matrix products", f"{sampling[FLOOR]:.3f}",
             f"{sampling['evaluation'] / sampling[FLOOR]:.2f}"],
        ]
    )  # fmt: skip


def of_epoch() -> str:
    """Seconds of an epoch of MNIST."""
    rows = [["an epoch of MNIST, 60 000 images", "s", "ours / it", "loss"]]
    for name, result in read("epoch")["contestants"].items():
        rows.append(
            [name, f"{result['median']:.2f}", f"{result['ratio']:.2f}", f"{result['loss'][-1]:.2f}"]
        )
    return table(rows)


def of_scaling() -> str:
    """What a step costs by batch, width, depth and samples, and an image by the data's size."""
    report = read("scaling")
    tables = []
    for name in "batch", "width", "depth", "samples":
        rows = [[name, "parameters", "step, ms", "products, ms", "ratio"]]
        for label, found in report[name].items():
            step, products = found["step_ms"], found["products_ms"]
            rows.append([label, f"{found['parameters']:,}".replace(",", " "), f"{step:.2f}",
                         f"{products:.2f}", f"{step / products:.2f}"])  # fmt: skip
        tables.append(table(rows))
    rows = [["images", "µs an image", "memory of its own, MiB"]]
    for label, found in report["data"].items():
        rows.append([label, f"{found['us_per_image']:.1f}", f"{found['own_mib'] or math.nan:.0f}"])
    return "\n\n".join([*tables, table(rows)])


def of_ops() -> str:
    """The lines on which most of a step is spent."""
    report = read("ops")
    rows = [["ms", "share", "line", "source"]]
    for line in report["lines"][:SHOWN_LINES]:
        share = line["ms"] / report["traced_ms"]
        source = line["source"].replace("|", "\\|")
        rows.append([f"{line['ms']:.3f}", f"{share:.0%}", line["file"], f"`{source}`"])
    rest = sum(line["ms"] for line in report["lines"][SHOWN_LINES:])
    rows.append([f"{rest:.3f}", f"{rest / report['traced_ms']:.0%}", "", "all other lines"])
    return (
        f"A step at batch {report['settings']['batch']} takes {report['step_ms']:.2f} ms, traced "
        f"{report['traced_ms']:.2f}; its matrix products alone {report['products_ms']:.2f}.\n\n"
        + table(rows)
    )


def of_startup() -> str:
    """Milliseconds of fresh interpreters."""
    report = read("startup")
    rows = [["a fresh interpreter", "ms"]]
    rows += [[f"`{name}`", f"{ms:.0f}"] for name, ms in report["medians"].items()]
    rows.append(["`import numpy_vae` beyond `import numpy`", f"{report['beyond_numpy']:.0f}"])
    return table(rows)


def of_reached() -> str:
    """What was asked beside what was found."""
    step, epoch, startup = read("step"), read("epoch"), read("startup")
    rows = [["asked, on two cores", "found", ""]]

    def add(what: str, found: float, most: float, unit: str = "") -> None:
        rows.append([what, f"{found:.3f}{unit}", "reached" if found <= most else "**missed**"])

    batches = step["batches"]
    for size, results in batches.items():
        peers = [name for name in results if name != FLOOR and OURS not in name]
        fastest = max(peers, key=lambda name: paired(results, OURS, name))
        what = f"batch {size}: at most 1.0 of the fastest peer, {fastest}"
        add(what, paired(results, OURS, fastest), 1.0)
    eager = paired(batches["128"], OURS, "PyTorch eager, default Adam")
    add("batch 128: at most 0.6 of PyTorch eager, default Adam", eager, 0.6)
    for size, most in ("128", 1.8), ("512", 1.5):
        what = f"batch {size}: at most {most} of the bare matrix products"
        add(what, paired(batches[size], OURS, FLOOR), most)
    contestants = epoch["contestants"]
    ours, _, example, *_ = contestants
    ratio = contestants[ours]["median"] / contestants[example]["median"]
    add("an epoch of MNIST: at most a third of PyTorch's example", ratio, 1 / 3)
    late = step["after"]["20000"] / step["after"]["1000"]
    add("a step after 20 000 steps: at most 1.05 of one after 1000", late, 1.05)
    beyond = startup["beyond_numpy"]
    add("`import numpy_vae`: at most 30 ms beyond `import numpy`", beyond, 30, " ms")
    sampling = step["evaluation"]["evaluation"] / step["evaluation"][FLOOR]
    add("log p(x) by importance sampling: at most 2.5 of its products", sampling, 2.5)
    return table(rows)


TABLES = {
    "machine": of_machine, "step": of_step, "reached": of_reached, "steady": of_steady,
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

    batches = read("step")["batches"]
    names = [name for name in next(iter(batches.values())) if name != FLOOR]
    figure, axes = plt.subplots(
        1, len(batches), figsize=(10, 3.4), sharey=True, layout="constrained"
    )
    for ax, (size, results) in zip(axes, batches.items(), strict=True):
        floor = results[FLOOR]["median"]
        widths = [paired(results, name, FLOOR) for name in names]
        colors = ["tab:red" if name.startswith(OURS) else "tab:gray" for name in names]
        bars = ax.barh(names, widths, color=colors, height=0.7)
        ax.bar_label(bars, [f"{width:.2f}" for width in widths], padding=3, fontsize=8)
        ax.axvline(1, color="black", linewidth=1)
        ax.set(title=f"batch {size}: floor {floor:.2f} ms", xlim=(0, 1.22 * max(widths)))
        ax.tick_params(axis="y", length=0)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    figure.supxlabel("a step as a multiple of its bare matrix products", fontsize=10)
    figure.savefig(FIGURE, dpi=120)
    plt.close(figure)


def main() -> None:
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    draw()
    print(f"written: {PAGE.name}, {FIGURE.name}")


if __name__ == "__main__":
    main()
