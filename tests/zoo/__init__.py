"""Layers from the textbooks, each with a right gradient and with the errors that people make."""

from zoo import dense, losses, norms

ZOO = (*dense.CASES, *norms.CASES, *losses.CASES)
