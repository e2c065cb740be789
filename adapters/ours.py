"""Our own compiler: ONNX to generated C, by the same worker as everybody else."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.framework import Framework
from adapters.protocol import (
    Conversion,
    Converted,
    Inputs,
    Prepared,
    Profile,
    ProfileEntry,
    Setting,
    Unsupported,
)

PACKAGE = "package"
SOURCES = Path(__file__).parent.parent / "ourcompiler"


@dataclass(frozen=True, slots=True, kw_only=True)
class OursAdapter(Framework):
    """`ourcompiler` for the machine at hand; `options` switch its passes off by name."""

    def conversion(self, setting: Setting) -> Conversion | None:
        """The compiler's own files are part of the key: a change of ours compiles again."""
        kinds = ("*.py", "*.toml", "runtime/*.[ch]")
        files = tuple(file for kind in kinds for file in sorted(SOURCES.rglob(kind)))
        return Conversion(
            tool="ourcompiler",
            distributions=("ziglang", "onnx", "numpy"),
            options={**self.options, "target": _target_name(setting.target)},
            files=files,
        )

    def convert(self, source: Path, folder: Path, setting: Setting) -> Converted:
        """Compile to a package; raises `Unsupported` for an operator that the compiler has not."""
        from ourcompiler.compile import compile_network
        from ourcompiler.errors import CompileError

        switched_off = tuple(filter(None, self.options.get("without", "").split(",")))
        try:
            compile_network(source, folder / PACKAGE, target_name=setting.target, without=switched_off)
        except CompileError as error:
            raise Unsupported(str(error)) from error
        return Converted(f"{PACKAGE}/manifest.json")

    def load(self, prepared: Prepared, setting: Setting) -> "OursSession":
        """Map the weights and start the threads."""
        from ourcompiler.runtime.session import Session as Loaded
        from ourcompiler.stored import read

        package = read(prepared.path.parent)
        loaded = Loaded(package, threads=setting.threads)
        facts = {**self.options, "threads": str(setting.threads), "target": package.target}
        return OursSession(loaded, facts, prepared.path)


def _target_name(name: str) -> str:
    from ourcompiler.targets import target

    return target(name).name


class OursSession:
    """A session of the compiler's own runtime."""

    def __init__(self, loaded: Any, facts: Mapping[str, str], manifest: Path) -> None:
        self._loaded = loaded
        self._facts = facts
        self._manifest = manifest

    def feed(self, inputs: Inputs) -> None:
        """Copy into the session's own buffers."""
        self._loaded.set_inputs(inputs)

    def run(self) -> None:
        """One inference."""
        self._loaded.execute()

    def outputs(self) -> Mapping[str, Any]:
        """Copies of the outputs of the last run."""
        return {name: value.copy() for name, value in self._loaded.outputs().items()}

    def describe(self) -> Mapping[str, str]:
        """The target, the threads, what was switched off."""
        from importlib.metadata import version

        facts = json.loads(self._manifest.read_text(encoding="utf-8"))
        return {
            **self._facts,
            "version": version("bench"),
            "build": f"ziglang {version('ziglang')}",
            "precision": "fp32",
            "kernels": str(len(facts["steps"])),
            "arena_bytes": str(facts["arena_bytes"]),
        }

    def profile(self, inputs: Inputs, inferences: int) -> Profile:
        """Every kernel call timed by the runtime; what the calls leave is the runtime's own."""
        from statistics import median
        from time import perf_counter_ns

        self.feed(inputs)
        self._loaded.profile()
        runs, totals = [], []
        for _ in range(inferences):
            start = perf_counter_ns()
            runs.append(self._loaded.profile())
            totals.append(perf_counter_ns() - start)
        steps = self._loaded.package.steps
        entries = tuple(
            ProfileEntry(
                name=kernel,
                operator=kernel.partition("_")[0],
                duration_ns=round(median(run[number] for run in runs)),
                nodes=origin,
                layout="implicit" if kernel.startswith("copy") else "",
            )
            for number, (kernel, origin) in enumerate(steps)
        )
        return Profile(entries, round(median(totals)), "the runtime's own clock around every kernel call")


OPTIMISATIONS = ("rewrite", "sink", "layout", "winograd")
"""What the compiler can leave out, in the order in which it does them; a test holds them to its own list."""


def _variants() -> dict[str, dict[str, str]]:
    """Without each one alone, and without the last, the last two …: the ladder of `reports/ablation.py`."""
    tails = (OPTIMISATIONS[start:] for start in range(len(OPTIMISATIONS) - 1))
    off = [*((name,) for name in OPTIMISATIONS), *tails]
    return {f"without-{'-'.join(names)}": {"without": ",".join(names)} for names in off}


OURS = OursAdapter(
    name="ours",
    title="ourcompiler, generated C",
    distribution="bench",
    precisions=("fp32",),
    variants=_variants(),
)
