"""Which kernels there are: the operators of the pinned networks, each shape once."""

import json
from collections.abc import Mapping, Sequence

from models.kernel_cases import Case
from models.kernel_templates import TEMPLATES
from reports.table import Table, cells

SCHEMA = "bench.kernels.list/1"
MEGA = 1e6


def list_table(cases: Sequence[Case], total: Mapping[str, int]) -> Table:
    """One row a kernel; `total` is the work of each template in all its kernels."""
    rows = [
        cells(
            case.template,
            case.name,
            str(case.count),
            f"{case.flops / MEGA:.3g}",
            f"{case.byte_count / MEGA:.3g}",
            f"{case.work / total[case.template]:.1%}" if total[case.template] else "",
            ", ".join(sorted(case.occurrences)),
        )
        for case in cases
    ]
    templates = dict.fromkeys(case.template for case in cases)
    return Table(
        "Kernels of the pinned networks",
        cells("template", "kernel", "n", "MFLOP", "MB", "of its template", "networks"),
        tuple(rows),
        remarks=tuple(f"{name}: {TEMPLATES[name].words}" for name in templates),
        text_columns=2,
        key_columns=2,
    )


def list_json(cases: Sequence[Case]) -> str:
    """The same under `SCHEMA`."""
    rows = [
        {
            "name": case.name,
            "template": case.template,
            "digest": case.digest,
            "count": case.count,
            "flops": case.flops,
            "bytes": case.byte_count,
            "occurrences": dict(case.occurrences),
        }
        for case in cases
    ]
    return json.dumps({"schema": SCHEMA, "kernels": rows}, indent=1, ensure_ascii=False) + "\n"
