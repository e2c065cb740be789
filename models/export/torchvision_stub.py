"""Lets `import timm` work without torchvision, whose builds do not load beside a CPU-only torch."""

import enum
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

# What timm reaches for while it is imported. None of it takes part in building or running a network.
_MODULES = (
    "torchvision",
    "torchvision.datasets",
    "torchvision.models",
    "torchvision.models.feature_extraction",
    "torchvision.ops",
    "torchvision.ops.misc",
    "torchvision.transforms",
    "torchvision.transforms.functional",
    "torchvision.utils",
)


class _Placeholder:
    """Stands for any torchvision name; it can be subclassed and called, and does nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __call__(self, *args: object, **kwargs: object) -> "_Placeholder":
        return self


class _FrozenBatchNorm2d(nn.Module):
    """timm asks `isinstance(module, FrozenBatchNorm2d)`, so the name must be a class of its own."""


class _InterpolationMode(enum.Enum):
    """timm maps these members to strings at import."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


class _Stub(types.ModuleType):
    __path__: list[str] = []  # noqa: RUF012 - the import system wants a list, and an empty one has no submodules

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Placeholder


def _stubs() -> dict[str, types.ModuleType]:
    stubs: dict[str, types.ModuleType] = {}
    for name in _MODULES:
        stub = _Stub(name)
        stub.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        stubs[name] = stub
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(stubs[parent], child, stub)
    stubs["torchvision.ops.misc"].__dict__["FrozenBatchNorm2d"] = _FrozenBatchNorm2d
    for name in ("torchvision.transforms", "torchvision.transforms.functional"):
        stubs[name].__dict__["InterpolationMode"] = _InterpolationMode
    return stubs


@contextmanager
def torchvision_stub() -> Iterator[None]:
    """Puts stand-ins for torchvision into `sys.modules` while the block runs, unless it is installed.

    They are taken out again at the end: diffusers looks for torchvision later, and a stub would mislead it.
    """
    if importlib.util.find_spec("torchvision") is not None:
        yield
        return
    stubs = _stubs()
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name in stubs:
            sys.modules.pop(name, None)
