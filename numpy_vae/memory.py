"""Keep freed memory in the process, for the next step.

A step allocates and frees some MB of arrays. glibc gives each block above a threshold, at first
128 KiB, back to the system, and the next step faults it in again page by page. But glibc raises the
threshold, up to 32 MiB, to the largest such block it has seen freed, for the rest of the process,
and keeps twice as much at the end of its heap. Freeing one block suffices; it is never written to,
so it takes no memory. Steps that free more at once, with some thousands of images, still fault.
"""

from __future__ import annotations

import numpy as np


def keep_freed_memory() -> None:
    """Free a block of 31 MiB, so that glibc keeps smaller ones. Without glibc it does nothing."""
    np.empty(31 << 20, np.uint8)
