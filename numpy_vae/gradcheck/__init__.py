"""Is this the gradient of that function?

check         `gradcheck`: any gradient of any function, by one of three methods
differences   `central_difference`, the idea in ten lines; and how far to trust it
taylor        the order in h of what an analytic slope leaves over
line          f along a line, through one entry or through all of a block
report        what is found: a row for each block, and the verdict
model         the gradient of a model of this package, at four points, term by term
"""

from .check import gradcheck
from .differences import central_difference

__all__ = ["central_difference", "gradcheck"]
