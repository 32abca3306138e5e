"""Is this the gradient of that function?

check     a gradient, entry by entry and along random directions; `central_difference` first
model     the same of a model of this package, at four points, term by term
"""

from .check import central_difference, gradcheck

__all__ = ["central_difference", "gradcheck"]
