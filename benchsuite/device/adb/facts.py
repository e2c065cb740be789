"""What a phone says of itself: one script, one round trip; each fact is a value, or the reason why it is
missing.
"""

import hashlib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from benchsuite.device.protocol import Fact

CPU = "/sys/devices/system/cpu"
LONGEST_REASON = 120
MARK = "@@"


@dataclass(frozen=True, slots=True)
class Probe:
    """One fact: its name, its chapter, and the script that prints it."""

    name: str
    chapter: str
    script: str


@dataclass(frozen=True, slots=True)
class Found:
    """A fact's text, or why there is none."""

    value: str | None
    reason: str = ""


def _property(name: str) -> Probe:
    """From the list of all, which is asked for once: one program in place of one a property."""
    cut = f't=${{properties#*"[{name}]: ["}}; echo "${{t%%]"$n"*}}"'
    return Probe(name, "identity", f'case $properties in *"[{name}]: ["*) {cut};; esac')


def _each(pattern: str) -> str:
    """Every file of a pattern with its text, a line each; by the shell itself, no program is started."""
    return f'for f in {pattern}; do [ -e "$f" ] && echo "$f=$(<"$f")"; done; true'


def _files(folder: str, names: str) -> str:
    """Files of a folder with their text; the shell of Android expands no braces when it is called `sh`."""
    return _each(" ".join(f"{folder}/{name}" for name in names.split()))


def _text(path: str) -> str:
    """A file's text; the code says whether it could be read. An assignment's code is its command's."""
    return f't=$(<{path}) && echo "$t"'


def _line(path: str, start: str) -> str:
    """The first line of a file that begins so."""
    return (
        f't=$(<{path}) && case "$n$t" in *"${{n}}{start}"*)'
        f' t="$n$t"; t=${{t#*"${{n}}{start}"}}; echo "{start}${{t%%"$n"*}}";; esac'
    )


PROPERTIES = (
    "ro.product.manufacturer",
    "ro.product.model",
    "ro.product.device",
    "ro.product.name",
    "ro.soc.manufacturer",
    "ro.soc.model",
    "ro.board.platform",
    "ro.hardware",
    "ro.build.fingerprint",
    "ro.build.version.release",
    "ro.build.version.sdk",
    "ro.product.cpu.abilist",
    "ro.serialno",
)
POLICY_FILES = [
    "related_cpus",
    "scaling_governor",
    "cpuinfo_max_freq",
    "scaling_max_freq",
    "scaling_min_freq",
    "scaling_cur_freq",
]
PROBES: tuple[Probe, ...] = (
    *(_property(name) for name in PROPERTIES),
    Probe("kernel", "identity", "uname -r"),
    Probe("page_size", "identity", "getconf PAGE_SIZE"),
    Probe("boot_id", "identity", _text("/proc/sys/kernel/random/boot_id")),
    Probe("uptime", "identity", _text("/proc/uptime")),
    Probe("selinux", "identity", "getenforce"),
    Probe("cpu_parts", "identity", "grep -E '^(CPU implementer|CPU part)' /proc/cpuinfo | sort | uniq -c"),
    Probe("cpu_features", "identity", _line("/proc/cpuinfo", "Features")),
    Probe("cpuset", "placement", _text("/proc/$$/cpuset")),
    Probe("allowed_cores", "placement", _line("/proc/$$/status", "Cpus_allowed_list")),
    Probe("online_cores", "cpu", _text(f"{CPU}/online")),
    Probe("capacities", "cpu", _each(f"{CPU}/cpu[0-9]*/cpu_capacity")),
    Probe("policies", "cpu", _each(" ".join(f"{CPU}/cpufreq/policy*/{name}" for name in POLICY_FILES))),
    Probe(
        "time_in_state",
        "cpu",
        f'for f in {CPU}/cpufreq/policy*/stats/time_in_state; do [ -r "$f" ] && echo "$f"; done',
    ),
    Probe("thermal_service", "thermal", "dumpsys thermalservice"),
    Probe(
        "thermal_zones",
        "thermal",
        _each("/sys/class/thermal/thermal_zone*/type /sys/class/thermal/thermal_zone*/temp"),
    ),
    Probe("cooling_devices", "thermal", _each("/sys/class/thermal/cooling_device*/cur_state")),
    Probe("battery", "battery", "dumpsys battery"),
    Probe("battery_current", "battery", _text("/sys/class/power_supply/battery/current_now")),
    Probe("battery_voltage", "battery", _text("/sys/class/power_supply/battery/voltage_now")),
    Probe("memory_total", "memory", _line("/proc/meminfo", "MemTotal")),
    Probe("memory_available", "memory", _line("/proc/meminfo", "MemAvailable")),
    Probe("storage_free", "memory", "df -k /data/local/tmp | tail -n 1"),
    Probe("memory_detail", "memory", "grep Pss: /proc/self/smaps_rollup"),
    Probe(
        "gpu_adreno",
        "gpu",
        _files("/sys/class/kgsl/kgsl-3d0", "gpu_model gpuclk max_gpuclk gpu_busy_percentage"),
    ),
    Probe("gpu_mali", "gpu", _files("/sys/kernel/gpu", "gpu_model gpu_clock gpu_max_clock gpu_busy")),
    Probe("gpu_mali_other", "gpu", _each("/sys/class/misc/mali0/device/clock")),
    Probe("counters", "counters", "ls /system/bin/simpleperf"),
    Probe("load", "state", _text("/proc/loadavg")),
)


def probe_script(probes: tuple[Probe, ...] = PROBES) -> str:
    """All probes in one script; each prints its mark, its text, its exit code. `$n` is a newline there."""
    parts = (
        f"echo; echo {MARK}{one.name}; {{ {one.script}; }} 2>&1; c=$?; echo; echo {MARK}= $c"
        for one in probes
    )
    return "\n".join(["n='\n'", 'properties="$(getprop)$n"', *parts])


def parse_probe(text: str, probes: tuple[Probe, ...] = PROBES) -> dict[str, Found]:
    """Read what the script printed; a probe that printed nothing is missing, with its reason."""
    found = {}
    for one in probes:
        pattern = rf"^{MARK}{re.escape(one.name)}\n(.*?)\n{MARK}= (\d+)$"
        match = re.search(pattern, text, re.DOTALL | re.MULTILINE)
        found[one.name] = _judge(match[1].strip(), int(match[2])) if match else Found(None, "no answer")
    return found


def _judge(value: str, code: int) -> Found:
    if code == 0 and value:
        return Found(value)
    words = " ".join(value.split())[-LONGEST_REASON:]
    return Found(None, words or ("nothing is there" if code == 0 else f"exit code {code}"))


@dataclass(frozen=True, slots=True)
class Core:
    """A core: capacity as the scheduler has it (None where it does not tell), its fastest clock, its
    policy.
    """

    number: int
    capacity: int | None
    max_khz: int | None
    policy: int | None


def cores_of(found: Mapping[str, Found]) -> tuple[Core, ...]:
    """Cores that the shell may use, the fastest first: by capacity, then clock, then number."""
    capacities = _numbers(found, "capacities", r"/cpu(\d+)/cpu_capacity=(\d+)")
    clocks: dict[int, int] = {}
    policies: dict[int, int] = {}
    text = found["policies"].value or ""
    maxima = {
        int(policy): int(khz) for policy, khz in re.findall(r"/policy(\d+)/cpuinfo_max_freq=(\d+)", text)
    }
    for policy, related in re.findall(r"/policy(\d+)/related_cpus=([\d ]+)", text):
        for core in map(int, related.split()):
            policies[core] = int(policy)
            clocks[core] = maxima.get(int(policy), 0)
    allowed = _listed((found["allowed_cores"].value or "").partition(":")[2])
    online = _listed(found["online_cores"].value or "")
    usable = allowed & online if online else allowed
    cores = [Core(one, capacities.get(one), clocks.get(one), policies.get(one)) for one in usable]
    return tuple(sorted(cores, key=lambda one: (-(one.capacity or 0), -(one.max_khz or 0), -one.number)))


def _numbers(found: Mapping[str, Found], name: str, pattern: str) -> dict[int, int]:
    return {int(one): int(value) for one, value in re.findall(pattern, found[name].value or "")}


def _listed(text: str) -> set[int]:
    """`0-3,6` to numbers."""
    numbers: set[int] = set()
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", text):
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers


def clusters_text(found: Mapping[str, Found]) -> str:
    """All cores by clock, such as `1×2.91 + 3×2.81 + 4×2.20 GHz`."""
    text = found["policies"].value or ""
    maxima = dict(re.findall(r"/policy(\d+)/cpuinfo_max_freq=(\d+)", text))
    counted = [
        (int(maxima[policy]), len(related.split()))
        for policy, related in re.findall(r"/policy(\d+)/related_cpus=([\d ]+)", text)
        if policy in maxima
    ]
    parts = [f"{count}×{khz / 1e6:.2f}" for khz, count in sorted(counted, reverse=True)]
    return f"{' + '.join(parts)} GHz" if parts else "unknown"


def run_facts(found: Mapping[str, Found]) -> dict[str, Fact]:
    """The facts of a run; a value that the phone does not tell is None. The serial number is a digest."""

    def text(name: str) -> str | None:
        return found[name].value

    total = re.search(r"(\d+) kB", text("memory_total") or "")
    serial = text("ro.serialno")
    cores = cores_of(found)
    return {
        "processor": " ".join(filter(None, (text("ro.soc.manufacturer"), text("ro.soc.model"))))
        or text("ro.hardware"),
        "architecture": "aarch64",
        "phone": " ".join(filter(None, (text("ro.product.manufacturer"), text("ro.product.model")))),
        "phone_serial_digest": hashlib.sha256(serial.encode()).hexdigest()[:12] if serial else None,
        "android": text("ro.build.version.release"),
        "android_build": text("ro.build.fingerprint"),
        "kernel": text("kernel"),
        "page_bytes": int(text("page_size") or 0) or None,
        "isa": (text("cpu_features") or "").partition(":")[2].strip() or None,
        "clusters": clusters_text(found),
        "logical_cores": len(_listed(text("online_cores") or "")) or None,
        "usable_cores": len(cores) or None,
        "placement_policy": "fastest cores first: " + ", ".join(str(one.number) for one in cores),
        "cpuset": text("cpuset"),
        "governor": ", ".join(sorted(set(re.findall(r"scaling_governor=(\w+)", text("policies") or ""))))
        or None,
        "memory_bytes": int(total[1]) * 1024 if total else None,
        "boot_id": text("boot_id"),
        "selinux": text("selinux"),
    }


def quoted_properties(names: tuple[str, ...]) -> str:
    """A script that prints each property on a line of its own."""
    return "; ".join(f"getprop {shlex.quote(name)} | head -n 1" for name in names)
