"""Keep freed memory in the process, for the next step.

A step allocates some MB of arrays and frees them. glibc asks the system for each block above a
threshold, 128 KiB at first, and gives it back when it is freed; the next step gets it anew and
faults it in page by page. But glibc raises the threshold, up to 32 MiB, to the size of the largest
such block that it has seen freed, for the rest of the process, and keeps twice as much that lies
free at the end of its heap. So a block that is never written into, and takes no memory, is enough
to teach it. Steps that free more than that at once, of some thousands of images, still fault.
"""

from __future__ import annotations

import numpy as np


def keep_freed_memory() -> None:
    """Free a block of 31 MiB, so that glibc keeps smaller ones. Elsewhere it does nothing."""
    np.empty(31 << 20, np.uint8)
