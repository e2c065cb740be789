"""Start a test phone by hand and say how to reach it; Ctrl-C ends it."""

import signal
import sys

from tests.phone.host import adb_binary
from tests.phone.phone import Phone
from tests.phone.setup import Unavailable


def main() -> None:
    try:
        phone = Phone()
    except Unavailable as reason:
        sys.exit(str(reason))
    with phone:
        key = "~/.android/adbkey.pub"
        print(f"authorise this computer: cat {key} >> {phone.root}/data/misc/adb/adb_keys")
        print(f"{adb_binary() or 'adb'} connect {phone.serial}")
        print(f"{adb_binary() or 'adb'} -s {phone.serial} shell", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
