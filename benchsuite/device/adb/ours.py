"""`ours` on a phone: the compiled network is a static program that measures itself; no Python is needed
there.
"""

import io
import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchsuite.device.adb.process import RunnerRefusal
from ourcompiler.ir.types import DType
from ourcompiler.stored import MANIFEST, PROGRAM, WEIGHTS

TARGET = "aarch64-static"
OPTIONS_SHOWN = ("without",)


@dataclass(frozen=True, slots=True)
class Place:
    """Where things of one worker are: files here by their path there, a path there for more (a file, and
    optionally those beside it), and how to have what it needs of them brought over together.
    """

    folder: str
    local_of: Callable[[str], Path]
    push: Callable[..., str]
    bring: Callable[[Iterable[str]], None]
    scratch: Path


class RawOutputs(Protocol):
    """Who knows what the plain bytes of a file of outputs are."""

    def arrays(self, raw: bytes) -> dict[str, Any]:
        """Arrays by the network's own names."""


class OursRunner:
    """Requests as lines of `ourcompiler/runtime/serve.c`; inputs and outputs as plain bytes in the manifest's
    order.
    """

    def __init__(self, place: Place, raw: dict[str, RawOutputs]) -> None:
        """`raw` is told which files hold plain bytes, so that pulling them makes arrays."""
        self._place, self._raw = place, raw
        self._manifest: dict[str, Any] = {}
        self._load: Mapping[str, Any] = {}

    def begin(self, request: Mapping[str, Any]) -> tuple[str, str]:
        """Bring over the program, which lies beside the manifest, and the inputs as it reads them."""
        place, manifest = self._place, request["path"]
        local = place.local_of(manifest)
        self._manifest, self._load = json.loads(local.read_text(encoding="utf-8")), request
        inputs = place.push(self._inputs(place.local_of(request["inputs"]), local))
        place.bring([manifest, inputs])
        folder = manifest.removesuffix(f"/{MANIFEST}")
        cores = ",".join(map(str, request.get("cores", ()))) or "-"
        words = [f"{folder}/{PROGRAM}", "serve", place.folder, f"{folder}/{WEIGHTS}", inputs]
        command = shlex.join([*words, str(request["threads"]), cores])
        limit = request.get("memory_limit_bytes")
        setup = f"chmod 755 {shlex.quote(words[0])}" + (f"\nulimit -d {limit // 1024}" if limit else "")
        return setup, command

    def line(self, request: Mapping[str, Any]) -> str:
        """One line of the program's own words."""
        doing = request["do"]
        lines: dict[str, Callable[[], str]] = {
            "load": lambda: "",
            "run": lambda: f"run {request['iterations']} {request.get('rewarm', 0)}",
            "outputs": lambda: f"outputs {request['path']}",
            "profile": lambda: f"profile {request['inferences']}",
            "memory": lambda: "memory",
            "quit": lambda: "quit",
        }
        if doing not in lines:
            raise RunnerRefusal(f"ours cannot answer `{doing}` on a phone")
        return str(lines[doing]())

    def reply(self, request: Mapping[str, Any], text: str) -> Mapping[str, Any]:
        """The program's JSON, with what only this side knows."""
        reply: dict[str, Any] = json.loads(text)
        if request["do"] == "outputs":
            self._raw[request["path"]] = self
        if not reply["ok"] or request["do"] not in ("load", "profile"):
            return reply
        return {**reply, **(self._facts() if request["do"] == "load" else self._entries(reply))}

    def arrays(self, raw: bytes) -> dict[str, Any]:
        """Outputs by name from the bytes that the program wrote; raises ValueError when they do not fit."""
        found, stream = {}, io.BytesIO(raw)
        for name, kind, shape in self._manifest["outputs"]:
            dtype = np.dtype(DType(kind).numpy)
            count = int(np.prod(shape, dtype=np.int64))
            found[name] = np.frombuffer(stream.read(count * dtype.itemsize), dtype).reshape(shape)
        return found

    def _inputs(self, archive_path: Path, manifest: Path) -> Path:
        path = self._place.scratch / f"{archive_path.parent.name}-{manifest.parent.parent.name}.inputs"
        with np.load(archive_path, allow_pickle=False) as archive:
            parts = [
                np.ascontiguousarray(archive[name], DType(kind).numpy).tobytes()
                for name, kind, _ in self._manifest["inputs"]
            ]
        path.write_bytes(b"".join(parts))
        return path

    def _facts(self) -> dict[str, Any]:
        options = self._load.get("options", {})
        facts = {
            **{name: str(options[name]) for name in OPTIONS_SHOWN if options.get(name)},
            "version": version("bench"),
            "build": f"ziglang {version('ziglang')}, static",
            "precision": "fp32",
            "threads": str(self._load["threads"]),
            "target": self._manifest["target"],
            "kernels": str(len(self._manifest["steps"])),
            "arena_bytes": str(self._manifest["arena_bytes"]),
        }
        return {"facts": facts}

    def _entries(self, reply: Mapping[str, Any]) -> dict[str, Any]:
        steps = zip(self._manifest["steps"], reply["step_ns"], strict=True)
        entries = [
            {
                "name": kernel,
                "operator": kernel.partition("_")[0],
                "duration_ns": duration,
                "nodes": nodes,
                "layout": "implicit" if kernel.startswith("copy") else "",
            }
            for (kernel, nodes), duration in steps
        ]
        return {"entries": entries, "source": "the runtime's own clock around every kernel call"}
