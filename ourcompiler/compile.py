"""The one door: an ONNX file in, a package out."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_cache_path

from ourcompiler import package, profiles, tilings, toolchain
from ourcompiler.errors import CompileError
from ourcompiler.ir.graph import Graph
from ourcompiler.onnx_in.load import load
from ourcompiler.passes.combination import combinations
from ourcompiler.passes.judge import Judge
from ourcompiler.passes.layout import choose, storages
from ourcompiler.pipeline import LAYOUT, optimize
from ourcompiler.profiles import EMPTY
from ourcompiler.program import Program, make_program
from ourcompiler.stored import Package, key_of, read
from ourcompiler.targets import HOST, Target, chip, target

if TYPE_CHECKING:
    from ourcompiler.runtime.session import Session

MOST_FILES = 4096
"""Files beside a network that are looked at: its weights, in a folder of their own."""


def program_of(graph: Graph, wanted: Target, without: Sequence[str] = ()) -> Program:
    """Lower an optimised graph."""
    layouts = {} if LAYOUT in without else storages(choose(graph))
    return make_program(graph, wanted, layouts)


def compile_network(
    path: Path,
    folder: Path,
    *,
    target_name: str = "host",
    dimensions: Mapping[str, int] | None = None,
    without: Sequence[str] = (),
    table: Path | None = None,
    profile: Path | None = None,
    threads: int = 1,
    tiled: Path | None = None,
    shipped: bool = True,
) -> Package:
    """Compile an ONNX file to a package in `folder`; raises `CompileError`. `table` overrides cells of the
    table of combinations; `profile` is a database whose entries for `threads` threads decide about yellow
    pairs; `tiled` a file of tilings, and `shipped` says whether those of the compiler are used (see
    `tuned_target`).

    A package that is there already, of the same network, compiler, target and options, is returned as it is.
    """
    wanted = tuned_target(target_name, tiled, shipped=shipped)
    judge = judge_of(wanted, table=table, profile=profile, threads=threads)
    key = package_key(path, wanted, dimensions or {}, without, judge)
    if key and key_of(folder) == key:
        return read(folder)
    graph = optimize(load(path, dimensions or {}), without, judge)
    return package.write(program_of(graph, wanted, without), folder, key=key)


def compile(
    path: Path | str,
    *,
    folder: Path | None = None,
    threads: int = 1,
    dimensions: Mapping[str, int] | None = None,
    without: Sequence[str] = (),
) -> "Session":
    """Compile an ONNX file for this machine and load it: `compile("net.onnx").run({"x": array})` gives the
    results by name. Close the session when it is no longer needed, or use it in a `with` statement.

    The package is kept in `folder`; without one, in the user's cache under what it was made from. Raises
    `CompileError`.
    """
    from ourcompiler.runtime.session import Session

    source = Path(path)
    if folder is None:
        wanted = tuned_target(HOST)
        key = package_key(source, wanted, dimensions or {}, without, judge_of(wanted, threads=threads))
        folder = user_cache_path("bench") / "packages" / f"{source.stem}-{(key or 'unkeyed')[:16]}"
    made = compile_network(source, folder, dimensions=dimensions, without=without, threads=threads)
    return Session(made, threads=threads)


def tuned_target(
    name: str, tiled: Path | None = None, *, shipped: bool = True, chip_name: str = ""
) -> Target:
    """The target of that name with tilings for a chip: this machine's for `host`. A target by any other name
    is any machine of the kind, so that without a chip's name it has none.

    Those of the file `tiled` come before those that are shipped. Raises `CompileError` for a damaged file,
    and for one that could have no effect.
    """
    wanted = target(name)
    found = chip_name or (chip() if name == HOST else "")
    if not found:
        if tiled is None:
            return wanted
        raise CompileError(
            f"tilings are for a chip, and {name!r} does not tell which",
            where=str(tiled),
            hint=f'name it, such as --chip "{chip() or "AuthenticAMD 25.1"}"',
        )
    entries = {**(tilings.shipped() if shipped else {}), **(tilings.read(tiled) if tiled else {})}
    return replace(wanted, tilings=tilings.select(entries, found, wanted.name, wanted.registers))


def judge_of(
    wanted: Target, *, table: Path | None = None, profile: Path | None = None, threads: int = 1
) -> Judge:
    """Who decides what is fused for a target; raises `CompileError` for files that are none."""
    database = EMPTY if profile is None else profiles.read(profile)
    return Judge(combinations(table), database, wanted, threads)


def package_key(
    path: Path, wanted: Target, dimensions: Mapping[str, int], without: Sequence[str], judge: Judge
) -> str:
    """What decides a package, as a digest: the network's file; size and time of the files with its weights
    (reading gigabytes would take longer than compiling); the compiler's own files; target and options; of a
    profile database what can decide anything. Empty when there is no such file, which `load` explains better.
    """
    if not path.is_file():
        return ""
    digest = hashlib.sha256(path.read_bytes())
    beside = sorted(one for one in path.parent.rglob("*") if one.is_file() and one != path)
    for file in beside[:MOST_FILES]:
        facts = file.stat()
        digest.update(f"{file.relative_to(path.parent)} {facts.st_size} {facts.st_mtime_ns}".encode())
    digest.update(f"{wanted} {sorted(dimensions.items())} {sorted(without)} {compiler_digest()}".encode())
    digest.update(judge.text.encode())
    return digest.hexdigest()


@cache
def compiler_digest() -> str:
    """A digest of the compiler's own files, and of the C compiler's version."""
    digest = hashlib.sha256(toolchain.compiler_version().encode())
    home = Path(__file__).parent
    for file in sorted(one for one in home.rglob("*") if one.suffix in (".py", ".c", ".h", ".toml")):
        digest.update(str(file.relative_to(home)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
