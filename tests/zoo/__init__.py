"""Layers from the textbooks, each with a right gradient and with the errors that people make."""

from zoo import attention, dense, linalg, losses, norms, recurrent

ZOO = (
    *dense.CASES,
    *norms.CASES,
    *losses.CASES,
    *attention.CASES,
    *recurrent.CASES,
    *linalg.CASES,
)
