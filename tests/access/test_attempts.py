"""Who may still try to log in, and who has tried too often."""

import os

import pytest

from rtm.access.attempts import Attempts, origin
from rtm.access.quota import Quota
from rtm.access.tokens import Authenticator
from rtm.protocol.errors import AuthenticationError, TooManyRequests
from tests.access.conftest import AGENT, OWNER, World

OFFICE, ELSEWHERE = "192.0.2.1", "198.51.100.1"


def attempts(refused_of_address: int = 3, with_token: int = 5) -> Attempts:
    """Limits within one minute that does not end."""
    return Attempts(
        Quota(refused_of_address, "refused tokens", clock=lambda: 0.0),
        Quota(with_token, "log-ins with one token", clock=lambda: 0.0),
    )


def unknown() -> str:
    """A token that nobody has made."""
    return f"Bearer dal:{os.urandom(32).hex()}"


async def refuse(authenticator: Authenticator, token: str, address: str | None = OFFICE, *, login: bool = True) -> None:
    with pytest.raises(AuthenticationError):
        await authenticator.authenticate(token, address, login=login)


async def stop(authenticator: Authenticator, token: str, address: str | None = OFFICE, *, login: bool = True) -> None:
    with pytest.raises(TooManyRequests):
        await authenticator.authenticate(token, address, login=login)


@pytest.fixture
def authenticator(world: World) -> Authenticator:
    return Authenticator(world.database, attempts(), region="dal")


@pytest.mark.parametrize("login", [True, False], ids=["socket", "web"])
async def test_an_address_has_so_many_tokens_refused(world: World, authenticator: Authenticator, login: bool) -> None:
    good = f"Bearer {(await world.token(AGENT)).token}"
    fresh = f"Bearer {(await world.token(OWNER)).token}"
    await authenticator.authenticate(good, OFFICE, login=login)
    for _ in range(3):
        await refuse(authenticator, unknown(), login=login)

    await stop(authenticator, unknown(), login=login)
    await stop(authenticator, unknown(), login=not login)
    await stop(authenticator, fresh, login=login)  # nobody has seen it yet, so it might be anything
    await authenticator.authenticate(good, OFFICE, login=login)
    await refuse(authenticator, unknown(), ELSEWHERE, login=login)
    await authenticator.authenticate(fresh, ELSEWHERE, login=login)
    await authenticator.authenticate(fresh, OFFICE, login=login)  # now it is known


async def test_a_client_that_repeats_a_dead_token_stops_only_itself(world: World, authenticator: Authenticator) -> None:
    dead = unknown()
    for _ in range(5):
        await refuse(authenticator, dead)
    await stop(authenticator, dead)
    await refuse(authenticator, unknown())
    await authenticator.authenticate(f"Bearer {(await world.token(AGENT)).token}", OFFICE, login=True)


async def test_refused_requests_at_the_web_api_are_limited_by_token_too(authenticator: Authenticator) -> None:
    dead = unknown()
    for _ in range(5):
        await refuse(authenticator, dead, login=False)
    await stop(authenticator, dead, login=False)


async def test_requests_with_a_good_token_are_never_limited(world: World, authenticator: Authenticator) -> None:
    good = f"Bearer {(await world.token(AGENT)).token}"
    for _ in range(100):
        await authenticator.authenticate(good, OFFICE)
    for _ in range(5):
        await authenticator.authenticate(good, OFFICE, login=True)
    await stop(authenticator, good)
    await authenticator.authenticate(good, OFFICE)


def test_an_office_of_a_thousand_logs_in_at_once() -> None:
    limited = attempts()
    for _ in range(1000):
        token = os.urandom(32)
        limited.begin(OFFICE, token, login=True)
        limited.succeeded(token)


def test_a_token_that_was_revoked_is_no_longer_a_good_one() -> None:
    limited = attempts()
    token = os.urandom(32)
    limited.succeeded(token)
    limited.failed(OFFICE, token, login=True)
    for _ in range(2):
        limited.failed(OFFICE, os.urandom(32), login=True)
    with pytest.raises(TooManyRequests):
        limited.begin(OFFICE, token, login=True)


def test_what_is_unknown_about_an_address_is_not_held_against_it() -> None:
    limited = attempts()
    for _ in range(10):
        limited.failed(None, os.urandom(32), login=True)
    limited.begin(None, os.urandom(32), login=True)


@pytest.mark.parametrize(
    ("address", "counted_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("unknown", "unknown"),
        ("_hidden:" + "x" * 100, "_hidden:" + "x" * 56),
    ],
)
def test_what_counts_as_one_address(address: str, counted_as: str) -> None:
    assert origin(address) == counted_as


def test_an_attack_with_ever_new_tokens_holds_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtm.access.quota.MAX_KEYS", 10)
    monkeypatch.setattr("rtm.access.attempts._GOOD_TOKENS", 10)
    limited = attempts(refused_of_address=0)
    for _ in range(1000):
        token = os.urandom(32)
        limited.begin(OFFICE, token, login=True)
        limited.failed(OFFICE, token, login=True)
        limited.succeeded(token)
    for quota in (limited._with_token, limited._refused):
        assert len(quota._counts) + len(quota._older) <= 20
    assert len(limited._good) == 10
