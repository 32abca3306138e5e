"""Damaged variants of a good file, always the same ones."""

import random


def variants(content, count=200):
    """Yield `count` damaged copies of some bytes: cut, flipped, overwritten, with absurd numbers.

    Half of the damage is in the first 200 bytes, where a format has its header.
    """
    chance = random.Random(0)
    for i in range(count):
        damaged = bytearray(content)
        end = min(len(content), 200) if i % 2 else len(content)
        at = chance.randrange(end)
        kind = i // 2 % 6
        if kind == 0:
            del damaged[at:]
        elif kind == 1:
            damaged[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            damaged[at : at + 4] = b"\xff" * len(damaged[at : at + 4])
        elif kind == 3:
            damaged[at : at + 4] = chance.randbytes(len(damaged[at : at + 4]))
        elif kind == 4:
            damaged[at:at] = chance.randbytes(chance.randrange(1, 40))
        else:
            del damaged[at : at + chance.randrange(1, 40)]
        yield bytes(damaged)
