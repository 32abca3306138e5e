"""Is this the gradient of that function?

check         `gradcheck`: any gradient of any function, by one of three methods
layer         `gradcheck_layer`: a layer whose backward pass takes an upstream gradient
differences   `central_difference`, the idea in ten lines, and how far to trust it
taylor        the order in h of the Taylor remainder
line          f along a line, through one entry or a whole block
verdict       right, wrong or undecided, for a line and for a block
report        a row for each block
nested        one array, or lists and mappings of them
model         the gradient of a model of this package, at four points, term by term
"""

from .check import gradcheck
from .differences import central_difference
from .layer import gradcheck_layer

__all__ = ["central_difference", "gradcheck", "gradcheck_layer"]
