"""Accounts: every second is claimed once, and what nobody claims is the harness's own."""

import pytest

from benchsuite.accounts import Accounts, harness_share


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("benchsuite.accounts.time", clock)
    return clock


def test_what_no_name_claims_is_the_harness(clock: Clock) -> None:
    accounts = Accounts()
    with accounts.spend("loading"):
        clock.now += 3
    clock.now += 1
    accounts.add("timed", 0.25)
    totals = accounts.totals()
    assert totals == {
        "loading": 3.0,
        "warm_up": 0.0,
        "timed": 0.25,
        "preparing": 0.0,
        "harness": 0.75,
        "wall": 4.0,
    }
    assert harness_share(totals) == 0.75 / 4


def test_a_stretch_inside_another_is_counted_once(clock: Clock) -> None:
    accounts = Accounts()
    with accounts.spend("preparing"):
        clock.now += 1
        with accounts.spend("loading"):
            clock.now += 5
            with accounts.spend("warm_up"):
                clock.now += 2
        accounts.add("timed", 0.5)
        clock.now += 3
    totals = accounts.totals()
    assert (totals["preparing"], totals["loading"], totals["warm_up"]) == (3.5, 5.0, 2.0)
    assert (totals["harness"], totals["wall"]) == (0.0, 11.0)


def test_time_is_claimed_when_the_stretch_fails(clock: Clock) -> None:
    accounts = Accounts()
    with pytest.raises(KeyboardInterrupt), accounts.spend("warm_up"):  # noqa: PT012  (time passes inside)
        clock.now += 2
        raise KeyboardInterrupt
    assert accounts.totals()["warm_up"] == 2.0


def test_time_of_a_recording_never_makes_the_harness_negative(clock: Clock) -> None:
    """A replayed device claims seconds that did not pass."""
    accounts = Accounts()
    with accounts.spend("loading"):
        accounts.add("timed", 100.0)
    assert accounts.totals()["loading"] == 0.0
    assert accounts.totals()["harness"] == 0.0


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError):
        Accounts().add("coffee", 1.0)


def test_no_time_has_no_share() -> None:
    assert harness_share({"harness": 0.0, "wall": 0.0}) == 0.0
    assert harness_share({}) == 0.0
