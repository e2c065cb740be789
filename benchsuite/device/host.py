"""What to write down about this machine: facts once a run, telemetry around every block."""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from benchsuite.device.protocol import Fact, Facts, Telemetry

ISA_FLAGS = (
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "asimd",
    "asimddp",
    "sve",
)
PACKAGES = ("numpy", "onnx", "pandas", "scipy")
CPU_ROOT = Path("/sys/devices/system/cpu")


def host_facts() -> Facts:
    """Facts of this machine; a value that the machine does not tell is None, never guessed."""
    cpu_info = _read(Path("/proc/cpuinfo"))
    flags = set((_field(cpu_info, "flags") or _field(cpu_info, "Features") or "").split())
    facts: dict[str, Fact] = {
        "processor": _field(cpu_info, "model name") or platform.machine(),
        "architecture": platform.machine(),
        "isa": " ".join(flag for flag in ISA_FLAGS if flag in flags),
        "family_model_stepping": "/".join(
            _field(cpu_info, name) or "?" for name in ("cpu family", "model", "stepping")
        ),
        "logical_cores": os.cpu_count(),
        "physical_cores": psutil.cpu_count(logical=False),
        "usable_cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "governor": _line(CPU_ROOT / "cpu0/cpufreq/scaling_governor"),
        "boost": _line(CPU_ROOT / "cpufreq/boost"),
        "transparent_huge_pages": _chosen(_line(Path("/sys/kernel/mm/transparent_hugepage/enabled"))),
        "hypervisor": "hypervisor" in flags,
        "kernel": platform.release(),
        "system": _system_name(),
        "python": platform.python_version(),
    }
    return facts | _caches() | {f"package_{name}": package_version(name) for name in PACKAGES}


def host_cores() -> tuple[int, ...]:
    """Cores that this process may use: the largest capacity first, then the highest number."""

    def capacity(core: int) -> int:
        folder = CPU_ROOT / f"cpu{core}"
        found = _line(folder / "cpu_capacity") or _line(folder / "cpufreq/cpuinfo_max_freq") or "0"
        return int(found) if found.isdecimal() else 0

    return tuple(sorted(os.sched_getaffinity(0), key=lambda core: (-capacity(core), -core)))


def host_telemetry() -> Telemetry:
    """State of this machine now; about a tenth of a millisecond."""
    times = psutil.cpu_times()
    total = sum(times[:8])  # user … steal; guest time is already inside user
    return Telemetry(
        clock_mhz=_clock_mhz(),
        temperature_celsius=_temperature_celsius(),
        load_average=os.getloadavg()[0],
        busy_seconds=total - times.idle - times.iowait,
        total_seconds=total,
        steal_seconds=times.steal,
        memory_available_bytes=psutil.virtual_memory().available,
    )


def kernel_memory_kills() -> int:
    """How many processes the kernel's memory killer has ended since boot; 0 where the kernel does not
    count.
    """
    match = re.search(r"^oom_kill (\d+)$", _read(Path("/proc/vmstat")), re.MULTILINE)
    return int(match[1]) if match else 0


def package_version(name: str) -> str | None:
    """Installed version of a distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _caches() -> dict[str, Fact]:
    found: dict[str, Fact] = {}
    for index in sorted((CPU_ROOT / "cpu0/cache").glob("index*")):
        level, kind, size = (_line(index / name) for name in ("level", "type", "size"))
        if level and kind != "Instruction":
            found[f"cache_l{level}"] = size
    return found


def _clock_mhz() -> float | None:
    """Mean present clock of the cores, as the kernel reports it (a virtual machine may report its nominal
    one).
    """
    clocks = [
        float(value) for value in re.findall(r"^cpu MHz\s*: ([\d.]+)$", _read(Path("/proc/cpuinfo")), re.M)
    ]
    return round(sum(clocks) / len(clocks), 1) if clocks else None


def _temperature_celsius() -> float | None:
    zones = [_line(zone / "temp") for zone in Path("/sys/class/thermal").glob("thermal_zone*")]
    values = [int(value) / 1000 for value in zones if value and value.lstrip("-").isdigit()]
    return max(values) if values else None


def _system_name() -> str:
    match = re.search(r'^PRETTY_NAME="?([^"\n]+)', _read(Path("/etc/os-release")), re.MULTILINE)
    return match[1] if match else platform.system()


def _field(text: str, name: str) -> str | None:
    match = re.search(rf"^{re.escape(name)}\s*:[ \t]*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else None


def _chosen(line: str | None) -> str | None:
    """`always [madvise] never` means madvise."""
    match = re.search(r"\[(\w+)\]", line or "")
    return match[1] if match else line


def _line(path: Path) -> str | None:
    return _read(path).strip() or None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
