"""A phone's state around every block: clocks, heat, battery, load; and whether it is fit to be measured."""

import math
import re
from collections.abc import Mapping, Sequence

from benchsuite.device.adb.facts import CPU, Core
from benchsuite.device.protocol import Telemetry
from benchsuite.policy import Policy

TICKS_A_SECOND = 100
SKIN = 3
NOT_A_TEMPERATURE = (0.0, -99.9)
IGNORED_SENSORS = ("thb_hda",)
THERMAL_NAMES = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
SKIN_NAMES = re.compile(r"skin|^ap$", re.IGNORECASE)


def state_script(policies: Sequence[int]) -> str:
    """One round trip; `policies` are those of the cores in use.

    Built-ins of the shell wherever they do (`$(<file)` starts no program): what looks at a phone disturbs it.
    The kernel's thermal zones are read only where Android names no processor's temperature.
    """
    lines = [
        't=$(</proc/stat); echo "${t%%"$n"*}"; echo "$(</proc/loadavg)"',
        't=$(</proc/meminfo); t=${t#*MemAvailable:}; echo "MemAvailable:${t%%"$n"*}"',
    ]
    for number in policies:
        folder = f"{CPU}/cpufreq/policy{number}"
        limits = f"$(<{folder}/scaling_max_freq) $(<{folder}/cpuinfo_max_freq)"
        lines.append(f'echo "@limit {number} {limits}"')
        lines.append(f'echo "@states {number}"; echo "$(<{folder}/stats/time_in_state)"; echo @end')
    lines.append(
        't=$(dumpsys thermalservice); echo "@thermal$n$t"; echo @battery; dumpsys battery; echo @zones'
    )
    zones = 'for z in /sys/class/thermal/thermal_zone*; do echo "$(<$z/type) $(<$z/temp)"; done'
    lines.append("t=${t#*temperatures from HAL:}; t=${t%%Current cooling devices*}")
    lines.append(f'case $t in *"mType=0,"*) ;; *) {zones};; esac; true')
    return "n='\n'\n" + "\n".join(lines)


def parse_states(text: str) -> dict[int, dict[int, int]]:
    """Ticks spent at each clock (kHz), by policy."""
    found = {}
    for number, body in re.findall(r"^@states (\d+)\n(.*?)^@end$", text, re.DOTALL | re.MULTILINE):
        found[int(number)] = {
            int(khz): int(ticks) for khz, ticks in re.findall(r"^(\d+) (\d+)$", body, re.MULTILINE)
        }
    return found


def resident_mhz(before: Mapping[int, int], after: Mapping[int, int]) -> float | None:
    """Mean clock between two looks, weighted by time; None when no time passed."""
    spent = {khz: ticks - before.get(khz, 0) for khz, ticks in after.items()}
    total = sum(spent.values())
    if total <= 0 or min(spent.values()) < 0:
        return None
    return round(sum(khz * ticks for khz, ticks in spent.items()) / total / 1000, 1)


def parse_state(text: str, cores: Sequence[Core]) -> Telemetry:
    """Everything but the resident clock, which needs two looks."""
    thermal, _, rest = text.partition("@thermal")[2].partition("@battery")
    battery, _, zones = rest.partition("@zones")
    load = re.search(r"^([\d.]+) [\d.]+ [\d.]+ \d+/\d+", text, re.MULTILINE)
    memory = re.search(r"^MemAvailable:\s*(\d+) kB", text, re.MULTILINE)
    busy, total, steal = _processor_seconds(text)
    temperatures = thermal_sensors(thermal)
    return Telemetry(
        temperature_celsius=max(
            (one for kind, _, one in temperatures if kind == 0), default=_hottest_zone(zones)
        ),
        load_average=float(load[1]) if load else None,
        busy_seconds=busy,
        total_seconds=total,
        steal_seconds=steal,
        memory_available_bytes=int(memory[1]) * 1024 if memory else None,
        thermal_status=_number(r"Thermal Status: (\d+)", thermal),
        thermal_overridden=True if "IsStatusOverride: true" in thermal else None,
        skin_celsius=_skin(temperatures),
        battery_percent=_number(r"^\s*level: (\d+)", battery),
        battery_celsius=_tenths(battery),
        clock_limit_share=_limit_share(text),
    )


def _processor_seconds(text: str) -> tuple[float | None, float | None, float | None]:
    match = re.search(r"^cpu +([\d ]+)$", text, re.MULTILINE)
    if match is None:
        return None, None, None
    ticks = [int(one) for one in match[1].split()][:8]
    total = sum(ticks)
    steal = ticks[7] if len(ticks) > 7 else 0
    return (total - ticks[3] - ticks[4]) / TICKS_A_SECOND, total / TICKS_A_SECOND, steal / TICKS_A_SECOND


def thermal_sensors(text: str) -> list[tuple[int, str, float]]:
    """Type, name and degrees of what the hardware says now; cached values are stale and left out."""
    now = text.partition("Current temperatures from HAL:")[2].partition("Current cooling devices")[0]
    pattern = r"mValue=([-\d.eE]+|NaN), mType=(-?\d+), mName=([^,}]*)"
    found = [(int(kind), name.strip(), float(value)) for value, kind, name in re.findall(pattern, now)]
    return [
        one
        for one in found
        if not math.isnan(one[2]) and one[2] not in NOT_A_TEMPERATURE and one[1] not in IGNORED_SENSORS
    ]


def _skin(sensors: Sequence[tuple[int, str, float]]) -> float | None:
    values = [value for kind, name, value in sensors if kind == SKIN or SKIN_NAMES.search(name)]
    return max(values) if values else None


def _hottest_zone(text: str) -> float | None:
    """Hottest zone in degrees: kernels tell thousandths, tenths or whole ones."""
    values = [celsius(int(one)) for one in re.findall(r" (-?\d+)$", text, re.MULTILINE)]
    sane = [one for one in values if 0 < one < 150]
    return max(sane) if sane else None


def celsius(raw: int) -> float:
    """A thermal zone's number in degrees, by its size."""
    if abs(raw) >= 1000:
        return raw / 1000
    return raw / 10 if abs(raw) > 150 else float(raw)


def _tenths(text: str) -> float | None:
    found = _number(r"^\s*temperature: (-?\d+)", text)
    return None if found is None else found / 10


def _limit_share(text: str) -> float | None:
    shares = [
        int(now) / int(most) for now, most in re.findall(r"^@limit \d+ (\d+) (\d+)$", text, re.MULTILINE)
    ]
    return round(min(shares), 3) if shares else None


def _number(pattern: str, text: str) -> int | None:
    match = re.search(pattern, text, re.MULTILINE)
    return int(match[1]) if match else None


def why_unfit(state: Telemetry, policy: Policy) -> str:
    """What keeps a phone from being measured now, in words; empty when nothing does."""
    reasons = []
    if state.thermal_overridden:
        reasons.append("its thermal status is overridden (`cmd thermalservice reset`)")
    elif state.thermal_status:
        reasons.append(f"thermal status {THERMAL_NAMES[min(state.thermal_status, 6)]}")
    if state.skin_celsius is not None and state.skin_celsius > policy.skin_celsius:
        reasons.append(f"skin {state.skin_celsius:.1f} °C > {policy.skin_celsius:g}")
    if state.battery_celsius is not None and state.battery_celsius > policy.battery_celsius:
        reasons.append(f"battery {state.battery_celsius:.1f} °C > {policy.battery_celsius:g}")
    if state.battery_percent is not None and state.battery_percent < policy.battery_percent:
        reasons.append(f"battery at {state.battery_percent} % < {policy.battery_percent:g}")
    return ", ".join(reasons)
