"""Every framework by the name the user types; a row names where the adapter is, so that nothing is
imported early.
"""

from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path
from typing import cast

from adapters.environments import packages_of
from adapters.external import External, as_framework
from adapters.framework import VARIANT_MARK
from adapters.protocol import Adapter
from adapters.runners import CONVERTERS, Program, existing_files, programs
from models.errors import BenchError
from models.suggest import nearest

ADAPTERS = {
    "ours": "adapters.ours:OURS",
    "ort": "adapters.ort:ORT",
    "ort-noopt": "adapters.ort:ORT_NOOPT",
    "tflite": "adapters.tflite:TFLITE",
    "tflite-runtime": "adapters.tflite:TFLITE_RUNTIME",
    "mnn": "adapters.mnn:MNN",
    "openvino": "adapters.openvino:OPENVINO",
    "iree": "adapters.iree:IREE",
    "tvm": "adapters.tvm:TVM",
    "tvm-tuned": "adapters.tvm:TVM_TUNED",
    "tvm-default": "adapters.tvm:TVM_DEFAULT",
    "ncnn": "adapters.ncnn:NCNN",
    "executorch": "adapters.executorch:EXECUTORCH",
}

SWEEPS = Path(__file__).parent / "sweeps"
"""What `benchmarks/sweep.py` found out about the variants, a file a framework."""
NOT_SWEPT = "its variants were not swept: the default options are not shown to be the fastest"

REFERENCE = "ort-noopt"
"""The framework whose fp32 outputs every other one is compared with."""


def adapter(name: str) -> Adapter:
    """Return the adapter of that name, or of a variant such as `mnn:winograd-off` (case does not matter); a
    program of the user's own too.

    Raises `BenchError` for an unknown one, and for a row of `runners.toml` that is wrong.
    """
    base, mark, variant = name.lower().partition(VARIANT_MARK)
    row = _of_bench(base) if base in ADAPTERS else _of_the_user(name, base)
    return row.variant(variant) if mark else row


def own_programs() -> dict[str, Program]:
    """The user's own programs by name; raises `BenchError` for a file that cannot be understood."""
    return programs(ADAPTERS)


def _of_bench(name: str) -> Adapter:
    module, _, attribute = ADAPTERS[name].partition(":")
    return cast(Adapter, getattr(import_module(module), attribute))


def _of_the_user(typed: str, name: str) -> Adapter:
    known = own_programs()
    if name not in known:
        names = (*ADAPTERS, *known)
        raise BenchError(
            f"unknown framework {typed!r}",
            where="--frameworks",
            hint=nearest(name, names, otherwise=f"one of {', '.join(names)}"),
        )
    existing_files(known[name])
    return as_framework(known[name], _of_bench(CONVERTERS[known[name].made_from]))


def notes_of(row: Adapter) -> tuple[str, ...]:
    """What a reader must know before calling the framework slow: its own notes, and whether its options are
    more than an opinion.
    """
    unswept = row.variants and not (SWEEPS / f"{row.name}.json").is_file()
    return (*row.notes, NOT_SWEPT) if unswept else row.notes


def installed_version(row: Adapter) -> str | None:
    """Version of the framework's distribution in its environment, or None when it is not installed; of a
    program of the user's own the digest of its files.
    """
    if isinstance(row, External):
        return row.fingerprint
    return distribution_version(row.distribution, row.environment)


def distribution_version(name: str, environment: str) -> str | None:
    """Version of a distribution in an environment, or None."""
    path = packages_of(environment)
    found = distributions(name=name) if path is None else distributions(name=name, path=[str(path)])
    return next((one.version for one in found), None)
