"""Is this the gradient of that function?

difference   `central_difference`: the idea, in ten lines
report       what is found: a row for each block, and the verdict
line         f along a line through one entry, or through all of a block
derivative   the slope of a line by differences and by the complex step, and how far to trust it
taylor       the order in h of what the slope leaves over
check        `gradcheck`: any gradient of any function, by one of three methods
model        the gradient of a model of this package, at four points, term by term
"""

from .check import gradcheck
from .difference import central_difference

__all__ = ["central_difference", "gradcheck"]
