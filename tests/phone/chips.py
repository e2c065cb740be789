"""What the test phone says of itself: properties, clusters, thermal zones, the nodes of its GPU."""

from dataclasses import dataclass, field

SHELL_ABI = "arm64-v8a"
CORTEX_A55, CORTEX_A78, CORTEX_X1 = 0x412FD050, 0x411FD411, 0x411FD440


@dataclass(frozen=True, slots=True)
class Cluster:
    """Cores with one clock: their numbers, capacity (1024 is the biggest), clocks in kHz, slowest first, and
    what the core says it is (MIDR_EL1).
    """

    cores: tuple[int, ...]
    capacity: int
    clocks_khz: tuple[int, ...]
    midr: int
    governor: str = "schedutil"


@dataclass(frozen=True, slots=True)
class Chip:
    """A phone by its properties and files. `zones` are thermal zones: type and millidegrees."""

    properties: dict[str, str]
    clusters: tuple[Cluster, ...]
    zones: tuple[tuple[str, int], ...]
    files: dict[str, str] = field(default_factory=dict)
    kernel: str = "5.4.242-android12-9-29037713"


def properties(
    model: str, device: str, product: str, soc: tuple[str, str], platform: str, fingerprint: str
) -> dict[str, str]:
    """The properties that bench looks at, as a phone of Samsung's has them."""
    return {
        "ro.product.manufacturer": "samsung",
        "ro.product.brand": "samsung",
        "ro.product.model": model,
        "ro.product.device": device,
        "ro.product.name": product,
        "ro.soc.manufacturer": soc[0],
        "ro.soc.model": soc[1],
        "ro.board.platform": platform,
        "ro.hardware": platform,
        "ro.build.fingerprint": fingerprint,
        "ro.build.version.release": "13",
        "ro.build.version.sdk": "33",
        "ro.product.cpu.abi": SHELL_ABI,
        "ro.product.cpu.abilist": f"{SHELL_ABI},armeabi-v7a,armeabi",
        "ro.serialno": "R5CR30TEST1",
        "ro.secure": "1",
        "ro.debuggable": "0",
        "ro.adb.secure": "1",
        "sys.boot_completed": "1",
        "phone.fixed_performance": "1",
        "service.adb.listen_addrs": "acceptfd:3",
    }


MALI = {
    "sys/kernel/gpu/gpu_clock": "260000\n",
    "sys/kernel/gpu/gpu_max_clock": "858000\n",
    "sys/kernel/gpu/gpu_busy": "0%\n",
    "sys/kernel/gpu/gpu_model": "Mali-G78 14 cores r0p1 0x92010002\n",
}
S21_ZONES = (
    ("BIG", 35000),
    ("MIDDLE", 34000),
    ("LITTLE", 33000),
    ("G3D", 33000),
    ("ISP", 32000),
    ("NPU", 32000),
    ("ac", 30000),
)

S21 = Chip(
    properties(
        "SM-G991B",
        "o1s",
        "o1sxeea",
        ("Samsung", "s5e9840"),
        "universal2100_r",
        "samsung/o1sxeea/o1s:13/TP1A.220624.014/G991BXXS9EWK1:user/release-keys",
    ),
    (
        Cluster((0, 1, 2, 3), 250, (400000, 1300000, 2210000), CORTEX_A55),
        Cluster((4, 5, 6), 775, (533000, 1690000, 2808000), CORTEX_A78),
        Cluster((7,), 1024, (650000, 1820000, 2912000), CORTEX_X1),
    ),
    S21_ZONES,
    MALI,
)
"""Galaxy S21 with the Exynos 2100. Its cores are eight; those of the machine beneath may be fewer."""

TWO_CORES = Chip(
    S21.properties,
    (Cluster((0,), 250, (400000, 2210000), CORTEX_A55), Cluster((1,), 1024, (650000, 2912000), CORTEX_X1)),
    S21_ZONES,
    MALI,
)
"""The same with one little and one big core, so that placement has cores that exist on a machine of two."""


def chip_files(chip: Chip) -> dict[str, str]:
    """Every file of /sys, by path without the leading slash."""
    cores = sorted(core for cluster in chip.clusters for core in cluster.cores)
    cpu = "sys/devices/system/cpu"
    span = f"{cores[0]}-{cores[-1]}\n"
    files = {f"{cpu}/{name}": span for name in ("online", "present", "possible")} | dict(chip.files)
    for cluster in chip.clusters:
        files |= _cluster_files(f"{cpu}/cpufreq/policy{cluster.cores[0]}", cluster)
        for core in cluster.cores:
            files |= _core_files(f"{cpu}/cpu{core}", core, cluster, cores)
    for number, (kind, millidegrees) in enumerate(chip.zones):
        files[f"sys/class/thermal/thermal_zone{number}/type"] = f"{kind}\n"
        files[f"sys/class/thermal/thermal_zone{number}/temp"] = f"{millidegrees}\n"
    files["sys/class/thermal/cooling_device0/type"] = "thermal-cpufreq-0\n"
    files["sys/class/thermal/cooling_device0/cur_state"] = "0\n"
    battery = "sys/class/power_supply/battery"
    return files | {f"{battery}/current_now": "-120\n", f"{battery}/voltage_now": "4200000\n"}


def _core_files(folder: str, core: int, cluster: Cluster, cores: list[int]) -> dict[str, str]:
    span, own, every = (
        f"{cores[0]}-{cores[-1]}\n",
        f"{1 << core:02x}\n",
        f"{sum(1 << one for one in cores):02x}\n",
    )
    topology = {"core_id": f"{core}\n", "physical_package_id": "0\n"}
    topology |= {"thread_siblings": own, "core_cpus": own, "core_siblings": every, "package_cpus": every}
    topology |= {"thread_siblings_list": f"{core}\n", "core_cpus_list": f"{core}\n"}
    topology |= {"core_siblings_list": span, "package_cpus_list": span}
    return {
        f"{folder}/cpu_capacity": f"{cluster.capacity}\n",
        f"{folder}/online": "1\n",
        f"{folder}/regs/identification/midr_el1": f"0x{cluster.midr:016x}\n",
        **{f"{folder}/topology/{name}": text for name, text in topology.items()},
    }


def _cluster_files(folder: str, cluster: Cluster) -> dict[str, str]:
    slowest, fastest = cluster.clocks_khz[0], cluster.clocks_khz[-1]
    return {
        f"{folder}/related_cpus": " ".join(map(str, cluster.cores)) + "\n",
        f"{folder}/affected_cpus": " ".join(map(str, cluster.cores)) + "\n",
        f"{folder}/scaling_governor": f"{cluster.governor}\n",
        f"{folder}/cpuinfo_max_freq": f"{fastest}\n",
        f"{folder}/cpuinfo_min_freq": f"{slowest}\n",
        f"{folder}/scaling_max_freq": f"{fastest}\n",
        f"{folder}/scaling_min_freq": f"{slowest}\n",
        f"{folder}/scaling_cur_freq": f"{slowest}\n",
        f"{folder}/scaling_available_frequencies": " ".join(map(str, cluster.clocks_khz)) + "\n",
        f"{folder}/stats/time_in_state": "".join(f"{clock} 1000\n" for clock in cluster.clocks_khz),
    }
