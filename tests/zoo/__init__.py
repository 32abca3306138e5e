"""Layers from the textbooks, each with a right gradient and with the errors that people make."""

from zoo import attention, corners, dense, linalg, losses, norms, recurrent

ZOO = (
    *dense.CASES,
    *norms.CASES,
    *losses.CASES,
    *attention.CASES,
    *recurrent.CASES,
    *corners.CASES,
    *linalg.CASES,
)
