"""The order in h of the Taylor remainder, which needs no step size,

    R(h) = f(θ + h v) - f(θ) - h g·v  =  h (∂f/∂v - g·v) + h² v·∇²f v / 2 + ...

It shrinks like h² if g is right and like h if not. So log₂ (R(h) / R(h/2)) must be at least 1.95 at
the smallest h whose remainder is a thousand times its rounding, along three random directions and
their opposites, since the two terms can cancel along one of them. If the second difference
f(θ + h v) - 2 f(θ + h v / 2) + f(θ), which does not depend on g, does not shrink like h² either,
there is a kink (relu at 0) on the way, and another direction is drawn. Another is also drawn where
the terms in h² and h³ cancel, and at a corner.
"""

from __future__ import annotations

import math

import numpy as np

from .differences import STEP, Derivative, difference, look_closer, rounding_of
from .line import Block, Line
from .report import NOT_READ, OK, TOLERANCE, WRONG, Row
from .verdict import judge, worst_row

LEAST_ORDER = 1.95
READABLE = 1000  # a remainder is read where it is this many times its rounding
UNSEEN = 1e-4  # an error of this share of the gradient is left to differences
LEVELS = 18  # of h, from 1e-7 up to 1e-2, doubled each time
FINE = 1e-8  # a corner of this share of the gradient spoils an order
READ, DRAWN = 3, 20  # directions along which the order is read, and the most that are drawn


def taylor_row(
    block: Block, most: int, directions: int, rng: np.random.Generator
) -> Row:  # fmt: skip
    """Read the order along three directions and back; return a row with the worst.

    At a corner there is no order along any direction, and beside one none that can be trusted: the
    entries are judged by differences.
    """
    v, tolerance = block.draw(rng), TOLERANCE["central"]
    noise = rounding_of(difference(v, STEP * v.scale))
    readings: list[list[Derivative]] = []  # for each direction: two, one or none
    beside = False
    while len(readings) < DRAWN and sum(len(ways) == 2 for ways in readings) < READ:
        v = block.draw(rng)
        ways = [read_order(way, noise) for way in (v, Line(block, -v.v))]
        read = [way for way in ways if way is not None]
        low = [way for way in read if way.order < LEAST_ORDER]
        if low and is_inconclusive(low[0].v, low[0].h):
            read = []
        elif low:
            seen = look_closer(difference(v, STEP * v.scale), FINE)
            beside = beside or seen.near or not seen.resolved
            read = [] if seen.corner else read
        readings.append(read)
    readings.sort(key=len, reverse=True)
    best = [way for ways in readings[:READ] for way in ways]
    if beside or not best:
        found = [difference(v, STEP * v.scale) for v in block.choose(most, directions, rng)]
        return worst_row(block, found, "central", tolerance)
    worst = min(best, key=lambda way: (way.order, -abs(way.slope - way.v.slope)))
    v, slope, order = worst.v, worst.slope, worst.order
    status, note = OK if order >= LEAST_ORDER else WRONG, ""
    size = max(block.rms, abs(slope))
    error = abs(slope - v.slope) / size if size else abs(slope - v.slope)
    if worst.floor > UNSEEN * size:
        hidden = judge(difference(v, STEP * v.scale), size, tolerance)
        slope, error, status, note = hidden.numeric, hidden.error, hidden.status, hidden.note
    if status == WRONG and not worst.moved and not block.is_read():
        note = NOT_READ
    shape = block.point.shape
    return Row(block.name, shape, None, v.slope, slope, error, "taylor", status, order, note=note)


def read_order(v: Line, noise: float, smallest: float = STEP / 64) -> Derivative | None:
    """Return the order at the smallest h where it is readable, and the forward difference over h.

    None if a kink comes first. The floor is the smallest error that shows there.
    """
    f, hs = v.f, [smallest * v.scale * 2**k for k in range(LEVELS)]
    values: list[float] = []
    last = LEVELS - 3  # no second difference is known beyond
    for k, h in enumerate(hs):
        values.append(v.at(h))
        rounding = max(f.rounding(values[k]), noise)
        if k < 3:
            continue
        # Over h/4, h/2 and h; they do not depend on the slope.
        bends = [abs(values[j] - 2 * values[j - 1] + f.f0) for j in (k - 2, k - 1, k)]
        if not bends[0] <= READABLE * rounding:
            lower, upper = map(order_of, bends[1:], bends)
            if lower >= 1.97 and abs(upper - lower) <= 0.05:  # one power of h, not a sum of two
                last = k
            elif k == 3 and smallest > 1e-15:  # readable from the first: begin lower
                return read_order(v, noise, smallest / 1024)
            else:
                last = k - 3  # no bend was visible up to here
            break
    if last < 1:
        return None
    rounding = max(f.rounding(*values[: last + 1]), noise)
    remainders = [abs(ft - f.f0 - h * v.slope) for ft, h in zip(values, hs, strict=False)]
    order, j = math.inf, last
    for j in range(1, last + 1):
        if not remainders[j - 1] <= READABLE * rounding:
            order = order_of(remainders[j], remainders[j - 1])
            break
    # Beside R = c h² an error of 0.036 c h in the slope leaves the order at 1.95.
    unseen = READABLE * rounding if order == math.inf else 0.036 * remainders[j]
    slope, floor = (values[j] - f.f0) / hs[j], unseen / hs[j]
    moved = any(ft != f.f0 for ft in values)
    return Derivative(v, slope, floor, moved=moved, order=order, h=hs[j])


def is_inconclusive(v: Line, h: float) -> bool:
    """Whether a low order says nothing of g: two terms cancel here, or the point is at a corner.

    A wrong slope is in the odd part of R, h (∂f/∂v - g·v) + O(h³), alone. At a corner the even part
    falls like h.
    """
    ahead, back = ([v.at(t) - v.f.f0 - t * v.slope for t in (s * h, s * h / 2)] for s in (1, -1))
    odd = [abs(a - b) / 2 for a, b in zip(ahead, back, strict=True)]
    even = [abs(a + b) / 2 for a, b in zip(ahead, back, strict=True)]
    at_corner = even[0] > abs(ahead[0]) / 10 and order_of(*even) < 1.5
    return order_of(*odd) >= LEAST_ORDER or at_corner


def order_of(coarse: float, fine: float) -> float:
    """log₂ of the remainder over h divided by that over h/2."""
    if not (math.isfinite(coarse) and coarse > 0 and math.isfinite(fine) and fine > 0):
        return -math.inf
    return math.log2(coarse) - math.log2(fine)
