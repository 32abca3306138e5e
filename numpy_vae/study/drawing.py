"""Write the figure of an experiment. No other module of the study imports matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import rcsetup
from matplotlib.figure import Figure

from ..figures.of_a_run import DPI, OWN, Write, write_figure
from ..figures.style import COLOURS
from ..files import atomic_write
from .report import Study

STYLE: dict[Any, Any] = {  # C0, C1, ... are the colours of `figures.style`
    "axes.prop_cycle": rcsetup.cycler(color=COLOURS), "axes.spines.top": False,
    "axes.spines.right": False, "axes.titlesize": "medium", "font.size": 9,
    "legend.frameon": False, "legend.fontsize": "small",
}  # fmt: skip


def save_study(path: Path, study: Study, found: Any, write: Write = atomic_write) -> None:
    """Write the figure of a study that draws, under its question; `write` as in `save_figures`."""
    assert study.draw is not None
    with mpl.rc_context(OWN | STYLE):
        figure = Figure((8, study.height), DPI, layout="constrained")
        study.draw(figure, found)
        figure.suptitle(study.question, fontsize="medium", fontweight="bold", parse_math=False)
        write_figure(figure, path, write)
