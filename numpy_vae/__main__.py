"""The command line: arguments, seeds, printing and files. Everything else is in the library.

Exit status: 0 done, 1 training or a check failed or a file could not be written on the way, 2
unusable arguments or data, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import TextIOWrapper
from itertools import groupby
from pathlib import Path
from statistics import median
from textwrap import wrap
from typing import Any, NamedTuple

import numpy as np

from . import __version__
from .arguments import SMALL_MODEL, build_parser
from .checkpoint import load_checkpoint, save_checkpoint
from .checks import check_whole
from .data import (
    Dataset,
    batch,
    binarized,
    left_to_draw,
    load_array,
    load_mnist,
    split_validation,
)
from .digits import load_digits
from .evaluate import Elbo, evaluate_elbo, evaluate_likelihood
from .likelihood import (
    Gaussian,
    LearnedGaussian,
    Likelihood,
    check_values,
    make_likelihood,
)
from .modelcheck import EXAMPLES, Check, check_model, point_table, summary
from .optim import Adam, Average
from .params import Array
from .progress import Progress, epoch_line, say
from .runs import (
    CHECKPOINT,
    LOOP,
    begin_run,
    create_run,
    read_config,
    write_history,
    write_json,
)
from .train import (
    Record,
    Streams,
    spawn_streams,
    start_output_bias,
    train_epochs,
)
from .vae import VAE

MOST_IMAGES_IN_FIGURES = 5_000

LEGEND = """\
centr, compl: error of central differences and of the complex step, relative to
the largest entry of the block; tayl: order of the Taylor remainder (2 where the
gradient is right, 1 where it is wrong, inf where the function is linear)"""


class UsageError(Exception):
    """What the user asked for cannot be done; the message is one line."""


class Run(NamedTuple):
    """All that training works on, checked before anything is written."""

    settings: dict[str, Any]
    data: Dataset
    vae: VAE
    adam: Adam
    streams: Streams
    average: Average | None
    history: list[Record]  # of the epochs that are behind, where a run is resumed
    folder: Path

    @property
    def result(self) -> VAE:
        """The model that is evaluated, drawn and kept: over the average, if there is one."""
        return self.vae if self.average is None else self.vae.over(self.average.mean)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: that of the process); return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name that the terminal cannot show is no error
            stream.reconfigure(errors="backslashreplace")
    args = build_parser().parse_args(argv)
    commands = {"train": train, "evaluate": evaluate, "gradcheck": check_gradients}
    try:
        return commands[args.command](args)
    except UsageError as error:
        print(f"numpy-vae {args.command}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


# --- before training: everything that can be refused ---------------------------------------------


def one_line(error: Exception) -> str:
    """Return what went wrong as one line."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"out of memory {error}".strip()
    return " ".join(str(error).split())


def prepare(args: argparse.Namespace) -> Run:
    """Check the arguments, load the data, build the model and, last of all, make the folder."""
    try:
        from . import plots  # noqa: F401  # what is wrong with matplotlib shows now, not at the end

        if args.resume is not None:
            return resume(args)
        if args.overwrite and args.out is None:
            raise ValueError("--overwrite applies to --out, and no --out is given")
        likelihood = likelihood_of(args.likelihood, args.variance)
        binarize = args.binarize or ("dynamic" if args.likelihood == "bernoulli" else "none")
        data = load_images(args.data, args.data_dir)
        for images in data.train, data.test:
            check_values(likelihood, images, f"--data {args.data}")
        data = divided(data, binarize, args.validation)
        check_whole("--warmup", args.warmup, 0, args.epochs)
        batch_size = args.batch_size or min(128, len(data.train))
        check_whole("--batch-size", batch_size, 1, len(data.train))
        streams = spawn_streams(args.seed)
        vae = VAE(
            data.train.shape[1],
            args.hidden,
            args.latent,
            args.activation,
            likelihood,
            rng=streams.initialisation,
        )
        if args.output_bias == "data":
            start_output_bias(vae, data.train)
        adam = Adam(vae.params, args.lr)
        average = Average(vae.params) if args.average else None
        settings = {
            "data": args.data,
            "data_dir": args.data_dir,
            "training_images": len(data.train),
            "test_images": len(data.test),
            "validation": args.validation,
            "binarize": binarize,
            "data_dim": vae.data_dim,
            "hidden": vae.hidden,
            "latent": vae.latent_dim,
            "activation": vae.activation,
            "likelihood": likelihood.name,
            "variance": getattr(likelihood, "variance", args.variance),
            "parameters": vae.params.flat.size,
            "output_bias": args.output_bias,
            "bound": args.bound,
            "samples": args.samples,
            "beta": args.beta,
            "warmup": args.warmup,
            "epochs": args.epochs,
            "batch_size": batch_size,
            "lr": adam.lr,
            "schedule": args.schedule,
            "average": args.average,
            "evaluate_every": args.evaluate_every,
            "seed": args.seed,
            "numpy_vae": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        }
        folder = create_run(args.out, data.name, overwrite=args.overwrite)
    except (ValueError, OSError, MemoryError, ImportError) as error:
        raise UsageError(one_line(error)) from None
    return Run(settings, data, vae, adam, streams, average, [], folder)


def resume(args: argparse.Namespace) -> Run:
    """Return the run of --resume as its last checkpoint has it."""
    folder = Path(args.resume)
    default = vars(build_parser().parse_args(["train"]))
    others = [name for name, value in vars(args).items() if value != default[name]]
    if others != ["resume"]:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in others if name != "resume")
        raise ValueError(f"--resume is given with {named}, must be the only option")
    settings = read_config(folder)
    data = load_images(settings["data"], settings["data_dir"])
    data = divided(data, settings["binarize"], settings["validation"])
    found = load_checkpoint(folder / CHECKPOINT)
    return Run(
        settings,
        data,
        found.vae,
        found.adam,
        found.streams,
        found.average,
        found.history,
        folder,
    )


def divided(data: Dataset, binarize: str, validation: int) -> Dataset:
    """Return the data as they are trained on: binarized, and some set aside for validation."""
    check_whole("--validation", validation, 0, len(data.train) - 1)
    # In this order, so that a training image is drawn alike whatever is set aside.
    return split_validation(binarized(data, binarize), validation)


def load_images(name: str, data_dir: str | None) -> Dataset:
    """Return the data set of this name, or of this file."""
    if data_dir is not None and name != "mnist":
        raise ValueError(f"--data-dir applies to --data mnist, not to --data {name}")
    if name == "digits":
        return load_digits()
    if name == "mnist":
        return load_mnist(data_dir)
    if not Path(name).exists():
        raise ValueError(f"--data is {name!r}, must be digits, mnist or an existing file")
    return load_array(name)


def sizes(vae: VAE) -> str:
    """Return the widths from the image to z, such as 784-400-20."""
    return "-".join(map(str, (vae.data_dim, *vae.hidden, vae.latent_dim)))


def likelihood_of(name: str, variance: float | None) -> Likelihood:
    """Return the likelihood of this name and, if it is a Gaussian, this variance."""
    if variance is None:
        return make_likelihood(name)
    if name == "gaussian":
        return Gaussian(variance)
    if name == "learned_gaussian":
        return LearnedGaussian(np.log([variance]))
    raise ValueError(f"--variance applies to a gaussian --likelihood, not to {name}")


# --- training -------------------------------------------------------------------------------------


def peak_memory() -> int | None:
    """Return the largest resident size of this process so far in MiB, where the system tells."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)


def train(args: argparse.Namespace) -> int:
    """``numpy-vae train``; return its exit status."""
    run = prepare(args)
    vae, data, folder, settings = run.vae, run.data, run.folder, run.settings
    history, epochs, binarize = run.history, settings["epochs"], settings["binarize"]
    say(heading(run))
    progress = Progress(epochs)
    before = sum(record.seconds + record.test_seconds for record in history)  # of a resumed run
    start = time.perf_counter() - before

    def save() -> None:
        save_checkpoint(folder / CHECKPOINT, vae, run.adam, run.streams, history, run.average)
        write_history(folder / "history.csv", history)

    try:
        with progress.catch_interrupt():
            save()
            begin_run(folder, settings)
            interrupted = False
            try:
                for record in train_epochs(
                    vae,
                    data,
                    **{name: settings[name] for name in LOOP},
                    rng=run.streams,
                    adam=run.adam,
                    average=run.average,
                    done=len(history),
                    on_step=progress,
                ):
                    history.append(record)
                    save()
                    progress.clear()
                    say(epoch_line(record, epochs))
                test = history[-1].held_out()["test"]
            except KeyboardInterrupt:
                interrupted = True
                progress.clear()
                if history:  # the last whole epoch is a point to go on from with the same bits
                    found = load_checkpoint(folder / CHECKPOINT)
                    run = run._replace(vae=found.vae, adam=found.adam, average=found.average)
                else:
                    save()
                print(
                    f"interrupted: the run is kept as it was after epoch {len(history)}; "
                    f"go on with: numpy-vae train --resume {folder}",
                    file=sys.stderr,
                )
                test = evaluate_elbo(
                    run.result,
                    data.test,
                    binarize=left_to_draw(binarize),
                    rng=run.streams.test_seed,
                )
            finish(run, test, time.perf_counter() - start, interrupted)
    except (FloatingPointError, MemoryError, OSError) as error:
        progress.clear()
        what = one_line(error)
        if isinstance(error, FloatingPointError):
            what = f"training stopped at {what} (a smaller --lr may help)"
        print(
            f"numpy-vae train: error: {what}; {folder / CHECKPOINT} is that of epoch "
            f"{len(history)}, or the last one written whole",
            file=sys.stderr,
        )
        return 1
    return 130 if progress.interrupted else 0


def heading(run: Run) -> str:
    """Return what is trained on what, in one line, or two."""
    vae, data, settings = run.vae, run.data, run.settings
    held_out = "" if data.validation is None else f"{len(data.validation)} validation, "
    named = {
        "elbo": settings["bound"], "1 samples": f"{settings['samples']} samples",
        "warmup 0": f"warmup {settings['warmup']}", "constant": settings["schedule"],
    }  # fmt: skip
    others = "".join(f", {value}" for default, value in named.items() if value != default)
    others += ", average" if run.average is not None else ""
    resumed = f"\nresumed after epoch {len(run.history)}" if run.history else ""
    return (
        f"{data.name}: {len(data.train)} training, {held_out}{len(data.test)} test images, "
        f"binarize {settings['binarize']}; {sizes(vae)} {vae.activation}, {vae.likelihood.name}"
        f"{others}; seed {settings['seed']}{resumed}"
    )


def finish(run: Run, test: Elbo, seconds: float, interrupted: bool) -> None:
    """Write the result and the figures of a run, and say what they are."""
    from .plots import save_figures  # matplotlib takes longer to import than all the rest

    vae, data, history, binarize = run.result, run.data, run.history, run.settings["binarize"]
    metrics: dict[str, Any] = {
        "test_elbo": test.elbo,
        "test_reconstruction": test.reconstruction,
        "test_kl": test.kl,
        "units": "nats per image",
        "data": run.settings["data"],
        "binarize": binarize,
        "likelihood": run.settings["likelihood"],
        "bound": run.settings["bound"],
        "samples": run.settings["samples"],
        "seed": run.settings["seed"],
        "epochs": len(history),
        "steps": run.adam.t,
        "interrupted": interrupted,
        "seconds": round(seconds, 3),
    }
    if history:
        metrics["seconds_per_epoch"] = round(median(record.seconds for record in history), 3)
        validation = history[-1].held_out().get("validation")
        if validation is not None:
            metrics |= {f"validation_{k}": value for k, value in validation._asdict().items()}
    for block, value in vae.likelihood.parameters().items():
        metrics[block] = value.tolist()
    write_json(run.folder / "metrics.json", metrics)
    if "likelihood.logvar" in vae.params:
        say(f"learned variance {math.exp(vae.params['likelihood.logvar'][0]):.4g}")
    say(f"test ELBO {test.elbo:.3f} nats per image (binarize {binarize}, one draw of the noise)")

    rng = np.random.default_rng(run.streams.test_seed)
    rows = slice(0, MOST_IMAGES_IN_FIGURES)
    x = batch(data.test, rows, binarize=binarize, rng=rng, dtype=vae.params.dtype)
    titled = replace(data, name=f"{data.name}, binarize {binarize}")
    written = save_figures(run.folder / "figures", vae, titled, x, history, rng=rng)
    # Once more, with the memory that the figures took.
    write_json(run.folder / "metrics.json", metrics | {"peak_memory_mib": peak_memory()})
    say(f"written to {run.folder}: {', '.join(f'figures/{path.name}' for path in written)}")


# --- evaluation -----------------------------------------------------------------------------------


def evaluate(args: argparse.Namespace) -> int:
    """``numpy-vae evaluate``; return its exit status."""
    folder = Path(args.run)
    try:
        settings = read_config(folder)
        vae = VAE.load(folder / CHECKPOINT)
        name = args.data or settings["data"]
        data = load_images(name, args.data_dir or settings["data_dir"])
        data = divided(data, settings["binarize"], settings["validation"])
        images = data.test if args.on == "test" else data.validation
        if images is None:
            raise ValueError(f"--on validation: {args.run} was trained without --validation")
        if images.shape[1] != vae.data_dim:
            raise ValueError(f"images have {images.shape[1]} pixels, must have {vae.data_dim}")
        count = args.images or len(images)
        check_whole("--images", count, 1, len(images))
        rng = np.random.default_rng(args.seed)
        images = images[np.sort(rng.permutation(len(images))[:count])]
        check_values(vae.likelihood, images, f"--data {name}")
    except (ValueError, OSError, MemoryError) as error:
        raise UsageError(one_line(error)) from None
    if not args.json:
        say(
            f"{args.run}: {data.name}, binarize {settings['binarize']}; {sizes(vae)} "
            f"{vae.activation}, {vae.likelihood.name}; {count} {args.on} images, "
            f"{args.samples} samples, seed {args.seed}"
        )
    progress = Progress(1)
    start = time.perf_counter()

    def show(done: int) -> None:
        left = (time.perf_counter() - start) * (count / done - 1)
        progress.show(f"{done}/{count} images, {left:.0f} s left")

    try:
        found = evaluate_likelihood(
            vae,
            images,
            samples=args.samples,
            binarize=left_to_draw(settings["binarize"]),
            rng=args.seed,
            on_images=show,
        )
    except (FloatingPointError, MemoryError) as error:
        progress.clear()
        print(f"numpy-vae evaluate: error: {one_line(error)}", file=sys.stderr)
        return 1
    progress.clear()
    result = found.summary() | {
        "units": "nats per image",
        "data": name,
        "on": args.on,
        "binarize": settings["binarize"],
        "likelihood": vae.likelihood.name,
        "seed": args.seed,
        "cross_entropy": vae.likelihood.name == "bernoulli" and not is_binary(images, settings),
        "seconds": round(time.perf_counter() - start, 3),
    }
    say(json.dumps(result) if args.json else evaluation_text(result))
    return 0


def is_binary(images: Array, settings: Mapping[str, Any]) -> bool:
    """Return whether the pixels are 0 or 1, so that Bernoulli's is a likelihood of them."""
    if settings["binarize"] != "none":
        return True
    return bool(((images == 0) | (images == (255 if images.dtype == np.uint8 else 1))).all())


def evaluation_text(result: Mapping[str, Any]) -> str:
    """Return the result of an evaluation as a few lines."""

    def mean(name: str) -> str:
        error = result[f"{name}_se"]
        return f"{result[name]:9.3f}" + ("" if error is None else f"  (standard error {error:.3f})")

    kls = sorted(result["kl_per_dimension"], reverse=True)
    active = "unknown" if result["active_units"] is None else f"{result['active_units']:5d}"
    grey = "grey pixels: what is called p(x) here is a cross-entropy, not a likelihood of them"
    return "\n".join(
        [
            *([grey] if result["cross_entropy"] else []),
            f"log p(x)        {mean('log_likelihood')}  nats per image (on average a lower bound)",
            f"ELBO            {mean('elbo')}",
            f"reconstruction  {result['reconstruction']:9.3f}",
            f"KL              {result['kl']:9.3f}",
            f"active units    {active} of {len(kls)} (variance of the posterior mean above 0.01)",
            *wrap("KL of each dimension: " + " ".join(f"{kl:.2f}" for kl in kls), 80),
            f"{result['seconds']:.1f} s",
        ]
    )


# --- the gradient check ---------------------------------------------------------------------------


def check_gradients(args: argparse.Namespace) -> int:
    """``numpy-vae gradcheck``; return its exit status."""
    try:
        vae = VAE(
            args.data_dim,
            args.hidden,
            args.latent,
            args.activation,
            likelihood_of(args.likelihood, args.variance),
            rng=args.seed,
        )
    except (ValueError, MemoryError) as error:
        raise UsageError(one_line(error)) from None
    entries = args.entries or (vae.params.flat.size if vae.params.flat.size <= SMALL_MODEL else 20)
    say(
        f"{sizes(vae)} {args.activation}, {args.likelihood}, {args.bound}, beta {args.beta:g}, "
        f"seed {args.seed}; "
        f"{EXAMPLES} examples"
    )
    say(LEGEND)
    start = time.perf_counter()
    checks: list[Check] = []
    try:
        found = check_model(vae, args.beta, bound=args.bound, max_entries=entries, rng=args.seed)
        for _, group in groupby(found, lambda check: check.point):
            of_point = list(group)
            checks += of_point
            say("\n" + point_table(of_point))
    except (ValueError, FloatingPointError, MemoryError) as error:
        print(f"numpy-vae gradcheck: error: {one_line(error)}", file=sys.stderr)
        return 1
    failed = sum(not check.report.ok for check in checks)
    say(f"\n{summary(checks)}; {time.perf_counter() - start:.1f} s")
    if failed:
        say(f"FAIL: {failed} of {len(checks)} checks")
        return 1
    say(f"ok: all {len(checks)} checks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
