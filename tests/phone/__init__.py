"""A phone to test against, without a phone: a real adbd and Android's shell, emulated, in namespaces.

Set up once by `python -m tests.phone.setup` (the test command does it); started in under a second:

    def test_something(phone, adb_home):              # one, authorised; a private adb server
        adb_home.connect(phone.serial)                # "connected to 127.0.0.1:PORT"
        done = adb_home.shell(phone.serial, "id")     # done.returncode, done.stdout, done.stderr
        phone.conditions.heat(skin=45.0, status=3)    # also cpu=, battery= in degrees Celsius
        phone.cable.cut_after(10_000)                 # also cut, hang, plug, rate_bytes_s

Fixtures (`tests/phone/fixtures.py`; skipped, with the reason, where the phone cannot run):

    phone          a phone for this test
    phones         phones(authorised=True, chip=S21, serial="R5CR30TEST1", data_bytes=0): as many as called
    module_phone   one for a module, connected; leave it as it was
    adb_home       .environment (give it to subprocesses, or monkeypatch.setenv each), .binary, .public_key,
                   .run(*words), .connect(serial), .disconnect(serial), .shell(serial, script)

`Phone` (`phone.py`): serial, boot_id, tmp (/data/local/tmp from here, a Path), root (its tree, a Path), on,
off (power loss), reboot, kill_adbd (init restarts it, and ends what it had started), authorise(adbkey.pub),
forget_keys, processes() (what runs there, without init and adbd), close. `data_bytes` makes /data/local/tmp a
disk of that size, which can be full.

`phone.conditions` (`conditions.py`): heat, battery(level=, temperature=), clock(core, current_khz=,
limit_khz=, run_ticks=), load(average), deny(path), remove(path), write(path, text), read(path).

`phone.cable` (`cable.py`): cut, plug, hang, cut_after(bytes), rate_bytes_s, moved_bytes, port.

Chips (`chips.py`): S21 (eight cores as the Exynos 2100 has them; the machine beneath may have fewer, as some
vendors confine their shell), TWO_CORES (one little, one big, both there on a machine of two). For others:
`replace(S21, properties={**S21.properties, "phone.fixed_performance": "0"})` is a phone without that mode.

What is not real: the kernel is this machine's (uname says otherwise), /sys is files, no SELinux, no Bionic,
 `taskset` knows only the cores of this machine, nothing is as fast as it would be.
"""
