"""What all tests share: files with the expected text, and the option that writes them anew."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.phone.host import end_servers, server_port

pytest_plugins = ["tests.phone.fixtures"]

GOLDEN = Path(__file__).parent / "data" / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/data/golden anew")


@pytest.fixture(scope="session", autouse=True)
def _own_adb_server() -> Iterator[None]:
    """Whoever asks adb without more starts a server that stays: here one on a port of this session's."""
    port = server_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
        yield
    end_servers(port)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the file of that name; with --update-golden, write it."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), f"{name} differs: look, then pytest --update-golden"

    return compare
