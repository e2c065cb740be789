"""Fixtures: `phone`, `phones` (makes as many as asked), `adb_home` (a private adb server with its own key).

`tests/conftest.py` makes them known to every test.
"""

from collections.abc import Callable, Iterator

import pytest

from tests.phone.host import AdbHome, adb_binary
from tests.phone.phone import Phone
from tests.phone.setup import Unavailable, parts


def require_phone() -> None:
    """Skip, with the reason in one line, where no test phone can be started."""
    try:
        parts()
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def adb_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdbHome]:
    """A private adb server, key and home for this test session, ended with it."""
    binary = adb_binary()
    if binary is None:
        pytest.skip("no adb: install the package adbutils, or put adb on the PATH")
    home = AdbHome(tmp_path_factory.mktemp("adb"), binary)
    yield home
    home.close()


@pytest.fixture
def phones(adb_home: AdbHome) -> Iterator[Callable[..., Phone]]:
    """Start a phone, authorised for `adb_home`; as often as called, all ended after the test."""
    require_phone()
    started: list[Phone] = []

    def start(*, authorised: bool = True, **options: object) -> Phone:
        phone = Phone(**options)  # type: ignore[arg-type]
        started.append(phone)
        if authorised:
            phone.authorise(adb_home.public_key)
        return phone

    yield start
    for phone in started:
        adb_home.disconnect(phone.serial)
        phone.close()


@pytest.fixture
def phone(phones: Callable[..., Phone]) -> Phone:
    """One phone, authorised, not connected: `adb_home.connect(phone.serial)`."""
    return phones()


@pytest.fixture(scope="module")
def module_phone(adb_home: AdbHome) -> Iterator[Phone]:
    """One phone for a module of tests that leave it as it was; connected."""
    require_phone()
    with Phone() as one:
        one.authorise(adb_home.public_key)
        adb_home.connect(one.serial)
        yield one
        adb_home.disconnect(one.serial)
