"""Is this the gradient of that function?

check         `gradcheck`: any gradient of any function, by one of three methods
differences   `central_difference`, the idea in ten lines, and how far to trust it
taylor        the order in h of the Taylor remainder
line          f along a line, through one entry or a whole block
report        a row for each block, and the verdict
model         the gradient of a model of this package, at four points, term by term
"""

from .check import gradcheck
from .differences import central_difference

__all__ = ["central_difference", "gradcheck"]
