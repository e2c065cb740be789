"""What tuning found, per kernel: a JSON file a network, under the CPU it was found on.

A kernel is known by TVM's structural hash, so that one network's records serve every network with the same
kernel. A record holds a schedule's trace, or none where no trial was faster than our own rule.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent / "tvm_tuned"


@dataclass(frozen=True, slots=True)
class Record:
    """One kernel: the time of our rule's schedule and of the fastest that was found, of so many tried."""

    kernel: str
    name: str
    rule_ns: int
    tuned_ns: int
    trials: int
    trace: str | None = None


NONE: Mapping[str, Record] = {}


def folder_of(cpu: str, root: Path = ROOT) -> Path:
    """Where the databases for a kind of CPU lie."""
    return root / cpu


def files_of(cpu: str, root: Path = ROOT) -> tuple[Path, ...]:
    """The databases for a kind of CPU, by name."""
    return tuple(sorted(folder_of(cpu, root).glob("*.json")))


def read(path: Path) -> dict[str, Record]:
    """The records of one database by kernel; empty where there is no file yet."""
    if not path.is_file():
        return {}
    rows = json.loads(path.read_text(encoding="utf-8"))["kernels"]
    return {row["kernel"]: Record(**row) for row in rows}


def write(path: Path, records: Iterable[Record]) -> None:
    """Write a database as a whole, in one step: a kill leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps(asdict(record)) for record in records]
    partial = path.with_suffix(".partial")
    partial.write_text('{"kernels": [\n' + ",\n".join(rows) + "\n]}\n", encoding="utf-8")
    partial.replace(path)


def all_records(paths: Iterable[Path]) -> Mapping[str, Record]:
    """The records of several databases together; of two for a kernel the faster."""
    found: dict[str, Record] = {}
    for path in paths:
        for kernel, record in read(path).items():
            if kernel not in found or record.tuned_ns < found[kernel].tuned_ns:
                found[kernel] = record
    return found


def kernel_key(function: Any) -> str:
    """What a kernel is known by: its structure, whatever its name and its variables' names."""
    from tvm_ffi import structural_hash

    plain = function.without_attr("global_symbol") if "global_symbol" in (function.attrs or {}) else function
    return f"{structural_hash(plain, map_free_vars=True) & (2**64 - 1):016x}"


def kernel_keys(module: Any) -> list[str]:
    """The keys of all kernels of a module."""
    from tvm import tirx

    rows = (function for _, function in module.functions_items())
    return [kernel_key(function) for function in rows if isinstance(function, tirx.PrimFunc)]


def from_record(function: Any, record: Record) -> Any:
    """The kernel with the schedule of a record; raises what TVM raises when the trace does not fit."""
    from tvm import ir, s_tir

    schedule = s_tir.Schedule(function)
    s_tir.schedule.Trace.apply_json_to_schedule(ir.load_json(record.trace), schedule)
    return schedule.mod["main"].with_attr("tirx.is_scheduled", True)
