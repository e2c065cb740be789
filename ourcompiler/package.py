"""Write a compiled network to disk: `manifest.json`, the library (the program, where static), the weights.

The folder is written beside its place and moved there when it is complete.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ourcompiler import toolchain
from ourcompiler.codegen.c import phase_name, print_kernel
from ourcompiler.kernel.ir import Kernel
from ourcompiler.program import Program
from ourcompiler.stored import LIBRARY, MANIFEST, PROGRAM, VERSION, WEIGHTS, Package, read

REGIONS = {
    "weights": "REGION_WEIGHTS",
    "arena": "REGION_ARENA",
    "input": "REGION_INPUT",
    "output": "REGION_OUTPUT",
}
FILES = 16
"""Into how many C files the kernels are put: each costs the compiler's start, all of them share the cores."""


def write(program: Program, folder: Path, *, jobs: int | None = None, key: str = "") -> Package:
    """Build the library, or the program for a target that is static, and write everything. `key` is what
    `key_of` will tell. Raises `CompileError` when the C compiler fails.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".package-") as temporary:
        place = Path(temporary) / "package"
        place.mkdir()
        if program.target.is_static:
            toolchain.build_program(sources_of(program), place / PROGRAM, program.target, jobs=jobs)
        else:
            toolchain.build(sources_of(program), place / LIBRARY, program.target, jobs=jobs)
        program.write_weights(place / WEIGHTS)
        (place / MANIFEST).write_text(
            json.dumps({**_manifest(program), "key": key}, indent=1) + "\n", encoding="utf-8"
        )
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(place, folder)
    return read(folder)


def _manifest(program: Program) -> dict[str, Any]:
    return {
        "version": VERSION,
        "name": program.name,
        "target": program.target.name,
        "inputs": [[name, one.dtype.value, list(one.shape)] for name, one in program.inputs],
        "outputs": [[name, one.dtype.value, list(one.shape)] for name, one in program.outputs],
        "steps": [[step.kernel, list(step.origin)] for step in program.steps],
        "arena_bytes": program.arena_bytes,
        "weights_bytes": program.weights_bytes,
    }


def sources_of(program: Program) -> dict[str, str]:
    """The C files of a program by name, without those of the runtime."""
    return dict(_sources(program))


def _sources(program: Program) -> Iterator[tuple[str, str]]:
    """C files by name: kernels spread over some of them, and the table of launches."""
    kernels = sorted(program.kernels.values(), key=lambda one: one.name)
    printed = sorted(
        ((print_kernel(one), one.name) for one in kernels), key=lambda one: (-len(one[0]), one[1])
    )
    for number in range(min(FILES, len(printed))):
        text = "".join(code for code, _ in printed[number::FILES])
        yield f"kernels_{number}.c", f'#include "kernels.h"\n\n{text}'
    yield "model.c", _model(program)


def _model(program: Program) -> str:
    phases = [
        phase_name(kernel.name, number)
        for kernel in sorted(program.kernels.values(), key=lambda one: one.name)
        for number in range(len(kernel.phases))
    ]
    places = [place for step in program.steps for place in step.arguments]
    launches = list(_launches(program))
    lines = ['#include "runtime.h"', ""]
    lines += [f"void {name}(char *const *, char *, int64_t);" for name in phases]
    lines.append(
        _array("ours_place", "places", [f"{{{REGIONS[one.region]}, {one.offset}}}" for one in places])
    )
    lines.append(_array("ours_launch", "launches", launches))
    for name, values in (("input_bytes", program.inputs), ("output_bytes", program.outputs)):
        lines.append(_array("int64_t", name, [str(one.byte_count) for _, one in values]))
    lines.append(
        f"const ours_model ours_description = {{{VERSION}, {len(launches)}, {len(program.steps)}, "
        f"{len(places)}, {len(program.inputs)}, {len(program.outputs)}, {program.arena_bytes}, "
        f"{program.scratch_bytes}, "
        f"{program.weights_bytes}, launches, places, input_bytes, output_bytes}};"
    )
    return "\n".join(lines) + "\n"


def _array(kind: str, name: str, values: Sequence[str]) -> str:
    return f"static const {kind} {name}[{max(len(values), 1)}] = {{{', '.join(values) or '0'}}};"


def _launches(program: Program) -> Iterator[str]:
    first = 0
    for number, step in enumerate(program.steps):
        kernel: Kernel = program.kernels[step.kernel]
        for phase, one in enumerate(kernel.phases):
            name = phase_name(kernel.name, phase)
            yield f"{{{name}, {one.tasks}, {first}, {len(step.arguments)}, {number}}}"
        first += len(step.arguments)
