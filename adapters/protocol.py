"""The small protocol behind which every framework stands: one half on the host, one half in the worker."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

Inputs = Mapping[str, Any]
"""Name to numpy array, exactly the network's shapes and dtypes."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a framework is asked to run: `threads` CPU threads in a precision class such as `fp32`."""

    threads: int
    precision: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `prepare` left for the worker: the file to load, the files it needs beside it, and how it came
    about.
    """

    path: Path
    companions: tuple[Path, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    converter: str = "none: reads ONNX"


class Session(Protocol):
    """A loaded network inside a worker."""

    def feed(self, inputs: Inputs) -> None:
        """Copy the inputs into the framework's own buffers; timed apart from `run`."""

    def run(self) -> None:
        """One inference; returns when the outputs are complete."""

    def outputs(self) -> Mapping[str, Any]:
        """Outputs of the last `run`, by the network's own output names, as arrays that stay valid."""

    def describe(self) -> Mapping[str, str]:
        """Facts of this session that a reader needs to judge fairness: version, options, threads."""


class Adapter(Protocol):
    """One framework in one configuration. Host methods import no framework; `load` is called in the worker
    only.
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
    def notes(self) -> tuple[str, ...]:
        """What a reader must know before calling this framework slow; empty when it runs at its best."""

    def refuse(self, setting: Setting) -> str | None:
        """Why this framework cannot run in this setting, or None."""

    def prepare(self, model_path: Path, setting: Setting, cache: Path) -> Prepared:
        """Convert or compile `model_path`, cached by content; raises `BenchError` when the framework
        cannot take it.
        """

    def load(self, prepared: Prepared, setting: Setting) -> Session:
        """Load in this process; raises whatever the framework raises: the worker turns it into a status."""
