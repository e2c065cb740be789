"""Bring the layers onto a phone, once for each content, checked there; and the words that start Python on it.

A layer is pushed as a tar, unpacked beside its place, every file compared with its sha256, and moved to its
place: a folder of that name is complete, or not there.
"""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchsuite.device.link import Link
from benchsuite.device.runtime.assemble import LOADER, SUMS, Layer, assemble
from benchsuite.device.runtime.table import BASE, CODE, layer_table, layers_of
from models.errors import BenchError

PLACE = "/data/local/tmp/bench/layers"
UNPACK_TIMEOUT_S = 900.0
TRIAL_TIMEOUT_S = 600.0
LOOK_TIMEOUT_S = 60.0
TRIALS = {
    "numpy": "numpy, adapters.worker, adapters.ours, ourcompiler.runtime.session",
    "onnxruntime": "onnxruntime",
    "litert": "ai_edge_litert.interpreter",
    "mnn": "_mnncengine",
    "ncnn": "ncnn",
    "openvino": "openvino",
}
"""What is imported once when a layer is new: it shows that it runs, and leaves compiled code for later."""
SPARE = 1.1
"""Bytes on the phone's disk for a byte of a file: blocks are not full."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Runtime:
    """A Python on the phone: `folders` are its layers there, the base first, the code last."""

    folders: tuple[str, ...]

    def command(self, words: Sequence[str], *, writes_code: bool = False) -> str:
        """One line of shell that becomes Python with these words, such as `-m adapters.worker`."""
        base, version = self.folders[0], layer_table().python
        variables = {
            "PYTHONHOME": f"{base}/py",
            "PYTHONPATH": ":".join(reversed(self.folders[1:])),
            "PYTHONDONTWRITEBYTECODE": "" if writes_code else "1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONUTF8": "1",
            "PYTHONNOUSERSITE": "1",
        }
        start = [f"{base}/lib/{LOADER}", "--library-path", f"{base}/lib", "--argv0", f"{base}/py/bin/python3"]
        settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
        return f"{settings} exec {shlex.join([*start, f'{base}/py/bin/python{version}', *words])}"


def provision(
    link: Link, frameworks: Sequence[str], say: Say = lambda _: None, *, trial: bool = True
) -> Runtime:
    """Push what is missing for the frameworks; returns the runtime. Raises `BenchError` for a framework that
    cannot run there, a phone of another kind or too full, and a layer that does not arrive or does not run.
    """
    check_machine(link)
    layers = [assemble(name, say) for name in layers_of(frameworks)]
    new = [one for one in layers if one.folder_name not in present(link)]
    _check_space(link, new)
    for layer in new:
        say(f"pushing {layer.name}: {layer.file_count} files, {layer.byte_count / 1e6:.0f} MB")
        push_layer(link, layer)
    runtime = Runtime(tuple(f"{PLACE}/{one.folder_name}" for one in layers))
    if trial:
        for layer in new:
            _try(link, runtime, layer.name, say)
    _remove_older(link, layers)
    return runtime


def provisioned(link: Link, frameworks: Sequence[str]) -> Runtime | None:
    """The runtime when everything is already there, or None: pushes nothing, and builds no layer of which
    the phone has nothing.
    """
    there, names = present(link), layers_of(frameworks)
    if not set(names) <= {one.rpartition("-")[0] for one in there}:
        return None
    layers = [assemble(name) for name in names]
    if any(one.folder_name not in there for one in layers):
        return None
    return Runtime(tuple(f"{PLACE}/{one.folder_name}" for one in layers))


def present(link: Link) -> frozenset[str]:
    """Names of the layers that are complete on the phone."""
    answer = link.shell(f"ls {PLACE} 2>/dev/null || true", LOOK_TIMEOUT_S)
    return frozenset(name for name in answer.out.split() if not name.endswith((".tar", ".new")))


def check_machine(link: Link) -> None:
    """Raise `BenchError` unless the phone runs 64-bit ARM programs."""
    machine = link.shell("uname -m", LOOK_TIMEOUT_S).out.strip()
    if machine != "aarch64":
        raise BenchError(
            f"the phone's kernel is for {machine or 'an unknown machine'}, the runtime for aarch64",
            where=link.serial,
            hint="use a phone with a 64-bit system",
        )


def push_layer(link: Link, layer: Layer) -> None:
    """Push one layer and have the phone check every file; what went wrong leaves nothing behind."""
    place, new, tar = (f"{PLACE}/{layer.folder_name}{end}" for end in ("", ".new", ".tar"))
    link.shell(f"mkdir -p {PLACE} && rm -rf {new} {tar}", LOOK_TIMEOUT_S)
    link.push(layer.tar, tar)
    script = (
        f"mkdir {new} && cd {new} && tar -xf {tar} && rm {tar} && sha256sum -c {SUMS} >{SUMS}.said 2>&1"
        f" && rm {SUMS}.said && cd / && mv {new} {place}"
        f" || {{ code=$?; grep -v ': OK$' {SUMS}.said >&2; rm -rf {new} {tar}; exit $code; }}"
    )
    answer = link.shell(script, UNPACK_TIMEOUT_S)
    if answer.code:
        said = (answer.err.strip().splitlines() or ["it did not say why"])[0]
        raise BenchError(
            f"the layer {layer.name} did not arrive whole: {said}",
            where=link.serial,
            hint="free some space on the phone, or push again: `bench devices provision`",
        )


def remove(link: Link) -> None:
    """Remove every layer from the phone."""
    link.shell(f"rm -rf {PLACE}", UNPACK_TIMEOUT_S)


def _remove_older(link: Link, layers: Sequence[Layer]) -> None:
    """Remove layers of the same names with other contents: every change of bench's code makes one."""
    kept, names = {one.folder_name for one in layers}, {one.name for one in layers}
    older = [one for one in present(link) if one.rpartition("-")[0] in names and one not in kept]
    if older:
        link.shell(f"cd {PLACE} && rm -rf {shlex.join(sorted(older))}", UNPACK_TIMEOUT_S)


def _check_space(link: Link, layers: Sequence[Layer]) -> None:
    """Raise `BenchError` when the layers, and the biggest of their tars, cannot fit."""
    if not layers:
        return
    needed = SPARE * (sum(one.byte_count for one in layers) + max(one.byte_count for one in layers))
    answer = link.shell("df -k /data/local/tmp | tail -n 1", LOOK_TIMEOUT_S)
    columns = answer.out.split()
    free = int(columns[3]) * 1024 if len(columns) >= 4 and columns[3].isdecimal() else None
    if free is not None and free < needed:
        raise BenchError(
            f"the runtime needs {needed / 1e6:.0f} MB on the phone, which has {free / 1e6:.0f} MB free",
            where=f"{link.serial}:/data/local/tmp",
            hint="free some space there, or provision fewer frameworks with --frameworks",
        )


def _try(link: Link, runtime: Runtime, layer: str, say: Say) -> None:
    """Import what a new layer brings; raises `BenchError` with the last line of what Python said."""
    if layer in (BASE, CODE):
        return
    say(f"trying {layer}")
    trial = runtime.command(["-c", f"import {TRIALS[layer]}"], writes_code=True)
    answer = link.shell(f"({trial})", TRIAL_TIMEOUT_S)
    if answer.code:
        said = (answer.err.strip().splitlines() or [f"exit code {answer.code}"])[-1]
        raise BenchError(f"{layer} does not start on this phone: {said}", where=link.serial)
