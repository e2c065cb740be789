"""The C compiler: clang in the `ziglang` wheel, the same for every target and on every machine.

Objects are kept by the content of everything that they are made from, and made in parallel.
"""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from platformdirs import user_cache_path

from ourcompiler.errors import CompileError
from ourcompiler.targets import Target

FLAGS = (
    "-std=gnu11",
    "-O3",
    "-fPIC",
    "-fwrapv",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fvisibility=default",
    "-fno-stack-protector",
    "-Wall",
    "-Wno-unused",
    "-Wno-psabi",
    "-g0",
)
UNCHECKED = "-fno-sanitize=all"
"""Said only where no check is asked for: `zig cc` takes it before any other word about them."""
LINK_FLAGS = frozenset({"-shared", "-static"})
TIMEOUT_S = 600
OBJECTS_VARIABLE = "BENCH_OBJECTS"
LINES_SHOWN = 8


def object_folder() -> Path:
    """Where objects are kept; safe to delete. `BENCH_OBJECTS` names another folder."""
    named = os.environ.get(OBJECTS_VARIABLE)
    return Path(named) if named else user_cache_path("bench") / "objects"


def build(
    sources: Mapping[str, str],
    library: Path,
    target: Target,
    *,
    jobs: int | None = None,
    flags: Sequence[str] = (),
) -> None:
    """Compile C files together with the runtime into a shared library.

    Raises `CompileError` with the compiler's last lines.
    """
    _link({**sources, "runtime.c": _runtime("runtime.c")}, library, target, jobs, (*flags, "-shared"))


def build_program(
    sources: Mapping[str, str],
    place: Path,
    target: Target,
    *,
    jobs: int | None = None,
    flags: Sequence[str] = (),
) -> None:
    """As `build`, into a program (`runtime/main.c`, `serve.c`), which needs no library where the target is
    static.
    """
    texts = {**sources, **{name: _runtime(name) for name in ("runtime.c", "main.c", "serve.c")}}
    _link(texts, place, target, jobs, (*flags, "-static") if target.is_static else tuple(flags))


def _link(
    texts: Mapping[str, str], place: Path, target: Target, jobs: int | None, flags: tuple[str, ...]
) -> None:
    compile_flags = tuple(one for one in flags if one not in LINK_FLAGS)
    if not any(one.startswith("-fsanitize=") for one in compile_flags):
        compile_flags = (UNCHECKED, *compile_flags)
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        objects = list(pool.map(lambda one: _object(one[0], one[1], target, compile_flags), texts.items()))
    command = [*compiler(), "-target", target.triple, f"-mcpu={target.cpu}", "-o", str(place)]
    command += [*flags, *map(str, objects), "-lm", "-lpthread", "-s"]
    _run(command, place.name)


def _object(name: str, text: str, target: Target, flags: tuple[str, ...]) -> Path:
    """The object of one file, from the cache or made now."""
    key = hashlib.sha256()
    for part in (
        text,
        _runtime("kernels.h"),
        _runtime("runtime.h"),
        target.triple,
        target.cpu,
        *FLAGS,
        *flags,
        compiler_version(),
    ):
        key.update(part.encode() + b"\0")
    folder = object_folder()
    place = folder / f"{key.hexdigest()}.o"
    if place.exists():
        return place
    folder.mkdir(parents=True, exist_ok=True)
    # Another thread may be at the same text.
    source = folder / f"{key.hexdigest()}.{os.getpid()}.{threading.get_ident()}.c"
    made = source.with_suffix(".o")
    source.write_text(text, encoding="utf-8")
    try:
        include = str(files("ourcompiler").joinpath("runtime"))
        command = [*compiler(), "-target", target.triple, f"-mcpu={target.cpu}", *FLAGS, *flags]
        _run([*command, f"-I{include}", "-c", str(source), "-o", str(made)], name)
        os.replace(made, place)
    finally:
        source.unlink(missing_ok=True)
        made.unlink(missing_ok=True)
    return place


def _run(command: list[str], what: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise CompileError(f"the C compiler took more than {TIMEOUT_S} s", where=what) from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        errors = [line for line in lines if "error" in line] or lines
        raise CompileError("the C compiler failed: " + "\n".join(errors[:LINES_SHOWN]), where=what)


@cache
def _runtime(name: str) -> str:
    return files("ourcompiler").joinpath("runtime", name).read_text(encoding="utf-8")


def compiler() -> tuple[str, ...]:
    """The command of the C compiler."""
    return (sys.executable, "-m", "ziglang", "cc")


@cache
def compiler_version() -> str:
    """Which compiler it is."""
    return f"ziglang {version('ziglang')}"
