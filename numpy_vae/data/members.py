"""Which arrays of a file are images, which are labels, and of which part, by their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from numpy.typing import NDArray

PARTS = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "validation", "valid": "validation", "validation": "validation",
}  # fmt: skip
IMAGES = ("", "x", "image", "images", "img", "imgs", "data", "rows", "features", "arr_0")
LABELS = (
    "y", "label", "labels", "target", "targets", "class", "classes", "species", "arr_1",
    "latents_classes",
)  # fmt: skip


class Member(NamedTuple):
    """The names of the arrays that hold the images of a part and their labels, if any."""

    images: str
    labels: str | None


def find_members(
    arrays: Mapping[str, NDArray[Any]], key: str | None, label_key: str | None
) -> dict[str, Member]:
    """Return the members of each part: train and test (and validation), or "" for all images.

    `key` and `label_key` choose where names do not tell. ValueError if they must be guessed.
    """
    for option, name in ("key", key), ("label_key", label_key):
        if name is not None and name not in arrays:
            raise ValueError(f"{option} is {name!r}, must be one of its arrays: {listing(arrays)}")
    if key is not None:
        return {"": Member(key, label_key)}
    roles: dict[tuple[str, str], list[str]] = {}
    for name in arrays:
        if name != label_key:
            roles.setdefault(_role(name), []).append(name)

    def only(part: str, kind: str) -> str | None:
        names = roles.get((part, kind), [])
        if len(names) > 1:
            raise ValueError(f"holds {' and '.join(map(repr, names))}: {_choose(arrays)}")
        return names[0] if names else None

    parts = {part: only(part, "images") for part in ("train", "validation", "test")}
    if parts["train"] and parts["test"]:
        return {p: Member(x, only(p, "labels")) for p, x in parts.items() if x is not None}
    images = only("", "images")
    if images is None:
        others = [
            name for name, x in arrays.items()
            if name != label_key and x.ndim > 1 and _role(name)[1] != "labels"
        ]  # fmt: skip
        if len(arrays) == 1:
            others = [*arrays]
        if len(others) != 1:
            raise ValueError(f"holds {listing(arrays)}: {_choose(arrays)}")
        images = others[0]
    labels = label_key or only(_role(images)[0], "labels") or only("", "labels")
    labels = None if labels == images else labels
    if labels == "arr_1" and len(arrays[labels]) != len(arrays[images]):
        raise ValueError(f"holds {listing(arrays)}: {_choose(arrays)}")
    return {"": Member(images, labels)}


def listing(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the names, shapes and types of arrays, as in 'x' (60, 784) uint8."""
    words = [f"{name!r} {x.shape} {x.dtype}" for name, x in arrays.items()]
    return ", ".join(words[:8] + ["..."] * (len(words) > 8)) or "no arrays"


def _choose(arrays: Mapping[str, NDArray[Any]]) -> str:
    return "name them x_train and x_test, or choose one with --key (key=...)"


def _role(name: str) -> tuple[str, str]:
    """Return the part and the kind, "images", "labels" or "", that a name says."""
    words = name.lower().replace("-", "_").split("_")
    part = next((PARTS[word] for word in words if word in PARTS), "")
    rest = "_".join(word for word in words if word not in PARTS)
    known = "labels" if rest in LABELS else "images" if rest in IMAGES else ""
    return part, known
