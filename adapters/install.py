"""Put a framework on this machine: packages of an extra into the environment of bench, or an environment of
its own. Only when it is asked for by name.
"""

import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from adapters.catalogue import ADAPTERS, adapter, distribution_version, installed_version
from adapters.environments import environments, is_made, make, why_unmakeable
from adapters.protocol import MAIN_ENVIRONMENT, Adapter, Setting
from models.errors import BenchError
from models.suggest import nearest

DISTRIBUTION = "bench"
CONSTRAINTS = Path(__file__).parent.parent / "constraints.txt"
PROBE_SETTING = Setting(threads=1, precision="fp32")
EXTRA_OF = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")
"""The marker by which a distribution's metadata tells the requirements of an extra."""

Say = Callable[[str], None]


def environments_of(row: Adapter) -> tuple[str, ...]:
    """Environments beside the main one that a framework needs: to run, and to convert for it."""
    conversion = row.conversion(PROBE_SETTING)
    wanted = (row.environment, conversion.environment if conversion else MAIN_ENVIRONMENT)
    return tuple(dict.fromkeys(name for name in wanted if name != MAIN_ENVIRONMENT))


def missing_parts(row: Adapter) -> tuple[str, ...]:
    """What `install` would still have to do, in words; empty when the framework can run at once."""
    parts = []
    if row.environment == MAIN_ENVIRONMENT and installed_version(row) is None:
        parts.append(row.distribution)
    conversion = row.conversion(PROBE_SETTING)
    if conversion is not None and conversion.environment == MAIN_ENVIRONMENT:
        tools = conversion.distributions
        parts += [name for name in tools if distribution_version(name, MAIN_ENVIRONMENT) is None]
    parts += [f"environment {name}" for name in environments_of(row) if not is_made(environments()[name])]
    return tuple(dict.fromkeys(parts))


def install(name: str, say: Say) -> None:
    """Install the framework or make the environment of that name; nothing to do for what is there.

    Raises `BenchError` for an unknown name, and when pip or the machine cannot do it.
    """
    if name in environments() and name not in ADAPTERS:
        _make(name, say)
        return
    if name not in ADAPTERS:
        known = tuple(dict.fromkeys((*ADAPTERS, *environments())))
        raise BenchError(
            f"no framework or environment is called {name!r}",
            where="bench frameworks install",
            hint=nearest(name, known, otherwise=f"one of {', '.join(known)}"),
        )
    row = adapter(name)
    if row.environment == MAIN_ENVIRONMENT and missing_parts(row):
        _install_extra(row, say)
    for needed in environments_of(row):
        _make(needed, say)


def _make(name: str, say: Say) -> None:
    reason = why_unmakeable(name)
    if reason is not None:
        raise BenchError(reason, where=f"environment {name}")
    make(name, say)


def _install_extra(row: Adapter, say: Say) -> None:
    """Call pip for what the framework's extra asks for, in the tested versions where they are known."""
    wanted = requirements_of(row.extra)
    if not wanted:
        return
    say(f"installing {', '.join(wanted)}")
    constraints = ["-c", str(CONSTRAINTS)] if CONSTRAINTS.is_file() else []
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run(
        [*command, *constraints, *wanted],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        tail = "\n  ".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise BenchError(
            f"pip could not install it; its last lines:\n  {tail}",
            where=row.name,
            hint=f"pip install {' '.join(wanted)}",
        )


def requirements_of(extra: str) -> tuple[str, ...]:
    """What an extra of bench asks for, as `pip install` takes it."""
    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        raise BenchError(
            "bench itself is not installed, so its extras are unknown", hint="install it: `pip install -e .`"
        ) from None
    found = []
    for line in lines:
        requirement, _, marker = line.partition(";")
        match = EXTRA_OF.search(marker)
        if match and match[1] == extra:
            found.append(requirement.strip())
    return tuple(found)
