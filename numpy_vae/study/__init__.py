"""Experiments, one file for each question that a reader asks.

`report` says what an experiment consists of; `linear`, `training`, `pictures` and `drawing` are
shared. In Python:

    from numpy_vae import load_digits
    from numpy_vae.study import STUDIES, Setting

    study = STUDIES["tied"]
    found = study.run(Setting(load_digits(3000), quick=True))
    for claim in study.claims:
        assert claim.holds(found), claim.text
"""

from . import (
    backward,
    bounds,
    checking,
    collapse,
    concatenated,
    kl,
    logits,
    logvar,
    reductions,
    sampling,
    slips,
    tied,
)
from .report import Claim, Column, Setting, Study, Table

# In the order in which they are read.
_MODULES = (
    *(tied, concatenated, logvar, sampling, kl, reductions),
    *(logits, bounds, collapse, checking, backward, slips),
)

STUDIES: dict[str, Study] = {module.STUDY.name: module.STUDY for module in _MODULES}


def page_of(study: Study) -> str:
    """Return the file name of a study's page in docs/study/, which begins with its number."""
    return f"{list(STUDIES).index(study.name) + 1:02}-{study.name}.md"


__all__ = ["STUDIES", "Claim", "Column", "Setting", "Study", "Table", "page_of"]
