"""What happens to a test phone: heat, throttling, an empty battery, load. Files that its services read."""

from pathlib import Path

from tests.phone.chips import Chip

TYPES = {"CPU": 0, "GPU": 1, "BATTERY": 2, "SKIN": 3}
SERVICE = "data/vendor/phone"
BATTERY = {
    "AC powered": "false",
    "USB powered": "true",
    "Wireless powered": "false",
    "Max charging current": "500000",
    "Max charging voltage": "5000000",
    "Charge counter": "3212000",
    "status": "2",
    "health": "2",
    "present": "true",
    "level": "80",
    "scale": "100",
    "voltage": "4200",
    "temperature": "285",
    "technology": "Li-ion",
    "current now": "-120",
}


class Conditions:
    """Cool, idle, 80 % charged when made; every method may be called while the phone is on."""

    def __init__(self, root: Path, proc: Path, chip: Chip) -> None:
        self._root, self._proc, self._chip = root, proc, chip
        (root / SERVICE).mkdir(parents=True)
        self._temperatures = {"AP": 33.0, "GPU": 32.0, "BAT": 28.5, "SKIN": 30.0}
        self._battery = dict(BATTERY)
        self._write_service("cooling", "\tCoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-0}\n")
        self._write_service(
            "temperatures_cached", "\tTemperature{mValue=99.0, mType=3, mName=SKIN, mStatus=4}\n"
        )
        self.heat(status=0)
        self.battery()
        self.load(0.2)
        self.memory_kills(0)
        self.log("")
        self.write_proc(
            "version", f"Linux version {chip.kernel} (build@host) #1 SMP PREEMPT Mon Jan 1 00:00:00 2024"
        )

    def heat(
        self,
        *,
        skin: float | None = None,
        cpu: float | None = None,
        battery: float | None = None,
        status: int = 0,
    ) -> None:
        """Temperatures in °C and the thermal status (0 none, 3 severe); None leaves a sensor as it was. The
        kernel's zones go with `cpu`; the service's cached temperatures stay wrong, as they do on phones.
        """
        for name, value in (("AP", cpu), ("SKIN", skin), ("BAT", battery)):
            if value is not None:
                self._temperatures[name] = value
        kinds = {"AP": "CPU", "GPU": "GPU", "BAT": "BATTERY", "SKIN": "SKIN"}
        lines = [
            f"\tTemperature{{mValue={value}, mType={TYPES[kinds[name]]}, mName={name}, mStatus={status}}}\n"
            for name, value in self._temperatures.items()
        ]
        self._write_service("temperatures", "".join(lines))
        self._write_service("thermal_status", f"{status}\n")
        if battery is not None:
            self.battery(temperature=round(battery * 10))
        if cpu is not None:
            for number in range(len(self._chip.zones)):
                self.write(f"sys/class/thermal/thermal_zone{number}/temp", f"{round(cpu * 1000)}\n")

    def battery(self, **values: object) -> None:
        """Change lines of `dumpsys battery`: `level=20`, `temperature=410` (tenths of °C)."""
        self._battery |= {name.replace("_", " "): str(value) for name, value in values.items()}
        unknown = set(self._battery) - set(BATTERY)
        if unknown:
            raise ValueError(f"the battery has no {', '.join(sorted(unknown))}")
        self._write_service(
            "battery", "".join(f"  {name}: {value}\n" for name, value in self._battery.items())
        )

    def clock(
        self,
        core: int,
        *,
        current_khz: int | None = None,
        limit_khz: int | None = None,
        run_ticks: int | None = None,
    ) -> None:
        """A core's cluster: its present clock, its limit (throttling), 10 ms ticks more at that."""
        cluster = next(one for one in self._chip.clusters if core in one.cores)
        folder = f"sys/devices/system/cpu/cpufreq/policy{cluster.cores[0]}"
        if current_khz is not None:
            self.write(f"{folder}/scaling_cur_freq", f"{current_khz}\n")
        if limit_khz is not None:
            self.write(f"{folder}/scaling_max_freq", f"{limit_khz}\n")
        if run_ticks is not None:
            present = self.read(f"{folder}/scaling_cur_freq").strip()
            rows = [line.split() for line in self.read(f"{folder}/stats/time_in_state").splitlines()]
            lines = [f"{clock} {int(ticks) + run_ticks * (clock == present)}\n" for clock, ticks in rows]
            self.write(f"{folder}/stats/time_in_state", "".join(lines))

    def load(self, average: float) -> None:
        """Load averages of /proc/loadavg."""
        self.write_proc("loadavg", f"{average:.2f} {average:.2f} {average:.2f} 1/900 4242")

    def memory_kills(self, count: int) -> None:
        """How many processes the kernel's memory killer has ended since boot, in /proc/vmstat."""
        self.write_proc("vmstat", f"nr_free_pages 100000\noom_kill {count}\noom_reaper 0")

    def log(self, text: str) -> None:
        """What `logcat -d` prints, whatever it is asked for."""
        self._write_service("log", text)

    def deny(self, path: str) -> None:
        """Take a file from the shell user, as many phones do: `sys/class/thermal/thermal_zone0/temp`."""
        (self._root / path).chmod(0)

    def remove(self, path: str) -> None:
        """Have a file not exist on this phone."""
        (self._root / path).unlink()

    def write(self, path: str, text: str) -> None:
        """Write a file of the phone, in place."""
        (self._root / path).write_text(text, encoding="utf-8")

    def read(self, path: str) -> str:
        """Read a file of the phone."""
        return (self._root / path).read_text(encoding="utf-8")

    def write_proc(self, name: str, text: str) -> None:
        """Write what the phone sees as a file of /proc."""
        (self._proc / name).write_text(text + "\n", encoding="ascii")

    def _write_service(self, name: str, text: str) -> None:
        self.write(f"{SERVICE}/{name}", text)
