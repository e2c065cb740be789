"""The virtual phone starts, runs a program of ours, and places it on the cores that it is told."""

import time
from collections.abc import Iterator

import pytest

from benchsuite.device.sampler.build import built_sampler
from tests.phone.host import AdbHome
from tests.phone.setup import Unavailable
from tests.phone.vm import VmPhone

BOOT_S = 120.0


@pytest.fixture(scope="module")
def vm(adb_home: AdbHome) -> Iterator[VmPhone]:
    try:
        phone = VmPhone(adb_home.public_key)
    except Unavailable as reason:
        pytest.skip(str(reason))
    with phone:
        end = time.monotonic() + BOOT_S
        while "connected to" not in (said := adb_home.connect(phone.serial)):
            assert time.monotonic() < end, f"{said}\n{phone.log()[-2000:]}"
            time.sleep(0.5)
        yield phone
        adb_home.disconnect(phone.serial)


@pytest.mark.vm
def test_smoke(vm: VmPhone, adb_home: AdbHome) -> None:
    said = adb_home.shell(vm.serial, "id -un; uname -m; getprop ro.product.model; nproc").stdout
    assert said.split() == ["shell", "aarch64", "SM-G991B", "8"]
    placed = adb_home.shell(vm.serial, "taskset f0 grep Cpus_allowed_list /proc/self/status").stdout
    assert placed.split()[1] == "4-7"
    adb_home.run("-s", vm.serial, "push", str(built_sampler("aarch64")), "/data/local/tmp/sampler")
    start = "cd /data/local/tmp && chmod 755 sampler && taskset 1 ./sampler -n 2 -i 100 -p $$"
    lines = adb_home.shell(vm.serial, start).stdout.splitlines()
    assert lines[-1].startswith('{"end":"samples","samples":2')
    assert '"temperatures":[35000,' in lines[1]
    assert adb_home.shell(vm.serial, "echo > /system/x").returncode == 1
