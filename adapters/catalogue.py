"""Every framework by the name the user types; a row names where the adapter is, so that nothing is
imported early.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import cast

from adapters.protocol import Adapter
from models.errors import BenchError
from models.suggest import nearest

ADAPTERS = {
    "ort": "adapters.ort:ORT",
    "ort-noopt": "adapters.ort:ORT_NOOPT",
}

REFERENCE = "ort-noopt"
"""The framework whose fp32 outputs every other one is compared with."""


def adapter(name: str) -> Adapter:
    """Return the adapter of that name (case does not matter); raises `BenchError` for an unknown one."""
    place = ADAPTERS.get(name.lower())
    if place is None:
        raise BenchError(
            f"unknown framework {name!r}",
            where="--frameworks",
            hint=nearest(name, ADAPTERS, otherwise=f"one of {', '.join(ADAPTERS)}"),
        )
    module, _, attribute = place.partition(":")
    return cast(Adapter, getattr(import_module(module), attribute))


def installed_version(row: Adapter) -> str | None:
    """Version of the framework's distribution in this environment, or None when it is not installed."""
    try:
        return version(row.distribution)
    except PackageNotFoundError:
        return None
