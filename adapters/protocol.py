"""The small protocol behind which every framework stands: one half on the host, one half in processes of its
own (`adapters.converter`, `adapters.worker`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

Inputs = Mapping[str, Any]
"""Name to numpy array, exactly the network's shapes and dtypes."""

MAIN_ENVIRONMENT = "main"
"""The environment that bench itself runs in; the others are rows of `environments.toml`."""


class Unsupported(Exception):  # noqa: N818  (a refusal is a status of a cell, not an error of ours)
    """The framework cannot take this network; the text names the operator, shape or limit that is its own."""


class Crashed(Exception):  # noqa: N818  (a status of a cell)
    """A program that a worker started did not end well; the text says how, with its last lines."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a framework is asked to run: `threads` CPU threads in a precision class such as `fp32`.

    `profile` asks for a session that can say where its time goes, which may make it slower. `target` is what
    compilers make code for: `host`, or a row of the compiler's `chips.toml` where a phone measures.
    """

    threads: int
    precision: str
    profile: bool = False
    target: str = "host"


@dataclass(frozen=True, slots=True)
class Conversion:
    """What makes ONNX into the file that a framework loads. Every field is part of the cache's key.

    `distributions` are the Python packages that decide the result, in the environment `environment`;
    `options` are what the converter is told; `per_threads` says that the thread count changes the result.
    """

    tool: str
    distributions: tuple[str, ...]
    environment: str = MAIN_ENVIRONMENT
    options: Mapping[str, str] = field(default_factory=dict)
    per_threads: bool = False
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Converted:
    """What `convert` left in its folder: `file` is what to load, relative to it; `options` go to `load`."""

    file: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What there is for the worker: the file to load, the files it needs beside it, and how it came about.

    `convert_seconds` is how long the conversion took, whenever that was; None where nothing was converted.
    """

    path: Path
    companions: tuple[Path, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    converter: str = "none: reads ONNX"
    convert_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ProfileEntry:
    """One thing that a framework ran, in its own words, with the time of one inference.

    `nodes` are names of the original ONNX nodes that it covers, empty where that cannot be recovered.
    `layout` marks layout transformations: `explicit` for an operator of the network (Transpose, Reshape …),
    `implicit` for one that the framework put in (packing, reordering, format conversion).
    """

    name: str
    operator: str
    duration_ns: int
    nodes: tuple[str, ...] = ()
    layout: Literal["", "explicit", "implicit"] = ""


@dataclass(frozen=True, slots=True)
class Profile:
    """Where one inference's time goes: medians over the profiled inferences, in order of execution.

    `total_ns` is the wall time of an inference while profiling; what the entries leave of it is unattributed.
    `source` names the framework's own profiler, with what a reader must know about it.
    """

    entries: tuple[ProfileEntry, ...]
    total_ns: int
    source: str


class Session(Protocol):
    """A loaded network inside a worker."""

    def feed(self, inputs: Inputs) -> None:
        """Copy the inputs into the framework's own buffers; timed apart from `run`."""

    def run(self) -> None:
        """One inference; returns when the outputs are complete."""

    def outputs(self) -> Mapping[str, Any]:
        """Outputs of the last `run`, by the network's own output names, in the network's own layout and
        dtype, as arrays that stay valid.
        """

    def describe(self) -> Mapping[str, str]:
        """Facts of this session that a reader needs to judge fairness: `version`, `build`, `threads`,
        `precision` (the class that it really computes in), and every option that was set.
        """

    def profile(self, inputs: Inputs, inferences: int) -> Profile:
        """Run with the framework's own profiler; raises `Unsupported` where there is none."""


class Adapter(Protocol):
    """One framework in one configuration. Host members import no framework; `convert` is called in a
    converter process and `load` in a worker only.
    """

    @property
    def name(self) -> str:
        """What the user types after `--frameworks`."""

    @property
    def title(self) -> str:
        """One line for listings."""

    @property
    def distribution(self) -> str:
        """The Python distribution whose version is recorded."""

    @property
    def extra(self) -> str:
        """The extra of bench that installs it in the main environment, empty where none is needed."""

    @property
    def environment(self) -> str:
        """Where its worker runs: `main`, or a row of `environments.toml`."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know before calling this framework slow; empty when it runs at its best."""

    @property
    def options(self) -> Mapping[str, str]:
        """What conversion and `load` are told. The defaults are the best that was measured."""

    @property
    def variants(self) -> Mapping[str, Mapping[str, str]]:
        """Other values of `options` that were tried, by the name after the colon in `mnn:winograd-off`."""

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precision classes that it can be asked for."""

    @property
    def tuned(self) -> bool:
        """Whether something was searched or tuned for the network at hand."""

    @property
    def tuner(self) -> str:
        """The module that searches, run as `python -m TUNER NETWORK.onnx --trials N --minutes M`, or ""."""

    def refuse(self, setting: Setting) -> str | None:
        """Why this framework cannot run in this setting, or None."""

    def variant(self, name: str) -> "Adapter":
        """The same framework with the options of one of its `variants`; raises `BenchError`."""

    def conversion(self, setting: Setting) -> Conversion | None:
        """How the network is made into what `load` reads; None when that is the ONNX file itself."""

    def convert(self, source: Path, folder: Path, setting: Setting) -> Converted:
        """Convert the ONNX file `source` into `folder`; raises `Unsupported` with the operator's name, or
        whatever the converter raises.
        """

    def load(self, prepared: Prepared, setting: Setting) -> Session:
        """Load in this process; raises `Unsupported`, or whatever the framework raises: the worker turns it
        into a status.
        """
