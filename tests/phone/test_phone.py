"""The test phone is a phone: its shell, its services, its cable, its death."""

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.phone.chips import S21
from tests.phone.host import AdbHome
from tests.phone.phone import Phone

PATIENCE_S = 20.0


def wait(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_who_one_is_there(module_phone: Phone, adb_home: AdbHome) -> None:
    listed = adb_home.run("devices", "-l").stdout
    assert "product:o1sxeea model:SM_G991B device:o1s" in listed
    said = adb_home.shell(module_phone.serial, "id -u; id -un; uname -rm; getprop ro.soc.model; pwd").stdout
    assert said.split("\n")[:5] == ["2000", "shell", f"{S21.kernel} aarch64", "s5e9840", "/"]


def test_exit_codes_and_streams_are_apart(module_phone: Phone, adb_home: AdbHome) -> None:
    done = adb_home.shell(module_phone.serial, "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_nothing_outside_its_place_can_be_written(module_phone: Phone, adb_home: AdbHome) -> None:
    for place in ("/system/x", "/x", "/sys/x", "/dev/x", *(["/data/x"] if os.getuid() == 0 else [])):
        assert adb_home.shell(module_phone.serial, f"echo > {place}").returncode == 1
    assert (
        adb_home.shell(module_phone.serial, "echo > /data/local/tmp/x && rm /data/local/tmp/x").returncode
        == 0
    )


def test_the_phone_has_no_network(module_phone: Phone, adb_home: AdbHome) -> None:
    said = adb_home.shell(module_phone.serial, "cat /proc/net/route; grep -c : /proc/net/dev").stdout
    assert said.splitlines()[-1] == "1"


def test_settings_stay_over_a_reboot_and_modes_do_not(phone: Phone, adb_home: AdbHome) -> None:
    adb_home.connect(phone.serial)
    script = "settings put global low_power 'a  b'; cmd power set-fixed-performance-mode-enabled true"
    assert adb_home.shell(phone.serial, script).returncode == 0
    before = phone.boot_id
    look = "settings get global low_power; dumpsys power | grep Fixed; cat /proc/sys/kernel/random/boot_id"
    assert adb_home.shell(phone.serial, look).stdout == f"a  b\n  mFixedPerformanceMode=true\n{before}\n"
    phone.reboot()
    adb_home.connect(phone.serial)
    assert phone.boot_id != before
    assert (
        adb_home.shell(phone.serial, look).stdout == f"a  b\n  mFixedPerformanceMode=false\n{phone.boot_id}\n"
    )


def test_settings_come_and_go(module_phone: Phone, adb_home: AdbHome) -> None:
    script = (
        "settings get system x; settings put system x 1; settings list system; settings delete system x; "
        "settings get system x; svc power stayon true; settings get global stay_on_while_plugged_in; "
        "settings delete global stay_on_while_plugged_in; settings get nowhere x"
    )
    done = adb_home.shell(module_phone.serial, script)
    assert done.stdout.split("\n")[:7] == ["null", "x=1", "Deleted 1 rows", "null", "7", "Deleted 1 rows", ""]
    assert done.returncode == 255


def test_a_mode_that_this_phone_lacks(phones: Callable[..., Phone], adb_home: AdbHome) -> None:
    phone = phones(chip=replace(S21, properties={**S21.properties, "phone.fixed_performance": "0"}))
    adb_home.connect(phone.serial)
    done = adb_home.shell(phone.serial, "cmd power set-fixed-performance-mode-enabled true")
    assert done.returncode == 255
    assert "Failed to set FIXED_PERFORMANCE" in done.stderr


def test_heat_battery_and_clocks(phone: Phone, adb_home: AdbHome) -> None:
    adb_home.connect(phone.serial)
    phone.conditions.heat(skin=46.5, cpu=81.0, battery=40.5, status=3)
    phone.conditions.battery(level=17)
    phone.conditions.clock(7, current_khz=650000, limit_khz=1820000, run_ticks=50)
    phone.conditions.load(3.5)
    phone.conditions.deny("sys/class/thermal/thermal_zone1/temp")
    policy = "/sys/devices/system/cpu/cpufreq/policy7"
    script = (
        "dumpsys thermalservice; dumpsys battery; cat /sys/class/thermal/thermal_zone*/temp; "
        f"cat {policy}/scaling_cur_freq {policy}/scaling_max_freq {policy}/stats/time_in_state /proc/loadavg"
    )
    done = adb_home.shell(phone.serial, script)
    now = done.stdout.split("Current temperatures from HAL:")[1]
    assert "Thermal Status: 3" in done.stdout
    assert "mValue=46.5, mType=3, mName=SKIN" in now
    assert "level: 17" in done.stdout
    assert "temperature: 405" in done.stdout
    assert now.count("\n81000\n") >= 1
    assert "thermal_zone1/temp: Permission denied" in done.stderr
    assert "650000\n1820000\n650000 1050\n" in now
    assert "3.50 3.50 3.50" in now


def test_keys_are_asked_for(phones: Callable[..., Phone], adb_home: AdbHome) -> None:
    phone = phones(authorised=False)
    assert "failed to authenticate" in adb_home.connect(phone.serial)
    assert f"{phone.serial}\tunauthorized" in adb_home.run("devices").stdout
    phone.authorise(adb_home.public_key)
    assert adb_home.connect(phone.serial) == f"connected to {phone.serial}"


def test_several_at_once(phones: Callable[..., Phone], adb_home: AdbHome) -> None:
    several = [phones(serial=f"SERIAL{number}") for number in range(3)]
    for phone in several:
        adb_home.connect(phone.serial)
    said = [adb_home.shell(phone.serial, "getprop ro.serialno").stdout.strip() for phone in several]
    assert said == ["SERIAL0", "SERIAL1", "SERIAL2"]


def test_a_cable_cut_in_a_push_and_plugged_again(phone: Phone, adb_home: AdbHome, tmp_path: Path) -> None:
    adb_home.connect(phone.serial)
    big = tmp_path / "big"
    big.write_bytes(bytes(range(256)) * 40_000)
    phone.cable.cut_after(1_000_000)
    assert (
        adb_home.run("-s", phone.serial, "push", "-Z", str(big), "/data/local/tmp/", check=False).returncode
        == 1
    )
    assert "failed to connect" in adb_home.connect(phone.serial)
    assert wait(lambda: not (phone.tmp / "big").exists()), "adbd removes what is incomplete"
    phone.cable.plug()
    assert "connected to" in adb_home.connect(phone.serial)
    adb_home.run("-s", phone.serial, "push", str(big), "/data/local/tmp/")
    assert (phone.tmp / "big").read_bytes() == big.read_bytes()


def test_a_command_outlives_the_cable_but_not_adbd(phone: Phone, adb_home: AdbHome) -> None:
    adb_home.connect(phone.serial)
    adb_home.shell(phone.serial, "setsid nohup sleep 1000 >/dev/null 2>&1 </dev/null &")
    assert any("sleep 1000" in one for one in phone.processes().values())
    phone.cable.cut()
    assert any("sleep 1000" in one for one in phone.processes().values())
    phone.cable.plug()
    phone.kill_adbd()
    assert wait(lambda: not phone.processes())
    assert wait(lambda: "connected to" in adb_home.connect(phone.serial))
    assert adb_home.shell(phone.serial, "echo again").stdout == "again\n"


def test_a_cable_that_hangs_goes_on_where_it_was(phone: Phone, adb_home: AdbHome) -> None:
    adb_home.connect(phone.serial)
    phone.cable.hang()
    start = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        adb_home.shell(phone.serial, "echo late", timeout_s=1.0)
    assert time.monotonic() - start >= 1.0
    phone.cable.plug()
    assert adb_home.shell(phone.serial, "echo now").stdout == "now\n"


def test_power_loss(phone: Phone, adb_home: AdbHome) -> None:
    adb_home.connect(phone.serial)
    adb_home.shell(
        phone.serial, "echo kept > /data/local/tmp/kept; setsid nohup sleep 1000 >/dev/null 2>&1 &"
    )
    phone.off()
    assert not phone.processes()
    assert "connected to" not in adb_home.connect(phone.serial)
    phone.on()
    assert "connected to" in adb_home.connect(phone.serial)
    assert adb_home.shell(phone.serial, "cat /data/local/tmp/kept").stdout == "kept\n"


def test_a_full_disk_outlives_power_loss(
    phones: Callable[..., Phone], adb_home: AdbHome, tmp_path: Path
) -> None:
    phone = phones(data_bytes=2 << 20)
    adb_home.connect(phone.serial)
    small, big = tmp_path / "small", tmp_path / "big"
    small.write_bytes(b"x" * 1000)
    big.write_bytes(b"x" * (3 << 20))
    adb_home.run("-s", phone.serial, "push", str(small), "/data/local/tmp/")
    done = adb_home.run("-s", phone.serial, "push", str(big), "/data/local/tmp/", check=False)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr + done.stdout
    phone.reboot()
    assert (phone.tmp / "small").read_bytes() == small.read_bytes()


def test_a_cable_that_is_pulled_twice_can_be_plugged_in(phone: Phone, adb_home: AdbHome) -> None:
    phone.cable.cut()
    phone.cable.cut()
    phone.cable.plug()
    adb_home.disconnect(phone.serial)
    assert wait(lambda: "connected to" in adb_home.connect(phone.serial))
    assert adb_home.shell(phone.serial, "echo here").stdout == "here\n"
