"""Who is let in with what, and what everybody else is told."""

import time
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from rtm.access.attempts import Attempts
from rtm.access.quota import Quota
from rtm.access.scopes import of_role
from rtm.access.tokens import Authenticator, Credentials, mint, parse_authorization, revoke
from rtm.protocol.errors import (
    ApiError,
    AuthenticationError,
    LicenseExpired,
    MisdirectedRequest,
    RequesterAwaitingApproval,
    RequesterSuspended,
)
from tests.access.conftest import AGENT, LICENSE_ID, OWNER, World

NO_LIMITS = Attempts(Quota(0, "refused tokens"), Quota(0, "log-ins"))


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authenticator(world: World, clock: Clock) -> Authenticator:
    return Authenticator(world.database, NO_LIMITS, region="dal", clock=clock)


def basic(user: str, token: str) -> str:
    return f"Basic {b64encode(f'{user}:{token}'.encode()).decode()}"


async def test_a_bearer_is_who_the_token_was_made_for(world: World, authenticator: Authenticator) -> None:
    new = await world.token(OWNER, client_id="client", lifetime_s=60)

    identity = await authenticator.authenticate(f"Bearer {new.token}")

    assert (identity.license_id, identity.agent_id, identity.kind, identity.role) == (7, OWNER, "agent", "owner")
    assert (identity.client_id, identity.token_id) == ("client", new.row["id"])
    assert identity.scopes == of_role("owner")
    assert identity.expires_at == pytest.approx(time.time() + 60, abs=5)


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", " Bearer  "])
async def test_the_scheme_may_be_written_in_any_case(world: World, authenticator: Authenticator, scheme: str) -> None:
    new = await world.token(AGENT)
    assert (await authenticator.authenticate(f"{scheme} {new.token} ")).agent_id == AGENT


async def test_basic_names_the_account_or_the_email(world: World, authenticator: Authenticator) -> None:
    new = await world.token(AGENT, kind="personal")

    for user in (world.account_ids[AGENT], AGENT, AGENT.upper()):
        assert (await authenticator.authenticate(basic(user, new.token))).agent_id == AGENT
    for user in (world.account_ids[OWNER], OWNER, "", AGENT[:-1]):
        with pytest.raises(AuthenticationError):
            await authenticator.authenticate(basic(user, new.token))


async def test_a_bot_comes_by_bearer_or_with_its_id(world: World, authenticator: Authenticator) -> None:
    new = await world.token(world.bot_id, kind="bot", client_id="client", scopes=["chats--all:ro"])

    for authorization in (f"Bearer {new.token}", basic(world.bot_id, new.token)):
        identity = await authenticator.authenticate(authorization)
        assert (identity.kind, identity.agent_id) == ("bot", world.bot_id)
        assert "chats--access:ro" in identity.scopes


async def test_a_token_gives_nothing_that_the_role_may_not_hold(world: World, authenticator: Authenticator) -> None:
    new = await world.token(AGENT, scopes=["chats--all:rw", "agents--all:rw"])

    scopes = (await authenticator.authenticate(f"Bearer {new.token}")).scopes

    assert "chats--access:rw" in scopes
    assert "chats--all:ro" not in scopes
    assert "agents--my:rw" in scopes


async def test_a_token_that_was_never_made_is_refused(authenticator: Authenticator) -> None:
    with pytest.raises(AuthenticationError):
        await authenticator.authenticate("Bearer dal:" + "x" * 43)


async def test_a_token_of_another_region_is_sent_there(authenticator: Authenticator) -> None:
    for authorization in ("Bearer fra:abc", basic("user", "fra:abc")):
        with pytest.raises(MisdirectedRequest) as refused:
            await authenticator.authenticate(authorization)
        assert refused.value.data == {"region": "fra"}


async def test_a_token_of_another_system_is_sent_there_and_is_no_attempt(world: World) -> None:
    """Whatever its region is called. What only has a colon in it is any text."""
    once = Attempts(Quota(1, "refused tokens"), Quota(0, "log-ins"))
    authenticator = Authenticator(world.database, once, region="us-1")
    theirs = mint("access", license_id=LICENSE_ID, agent_id=AGENT, scopes=[], region="us-2").token
    for _ in range(2):
        with pytest.raises(MisdirectedRequest) as refused:
            await authenticator.authenticate(f"Bearer {theirs}", "192.0.2.1")
        assert refused.value.data == {"region": "us-2"}
    with pytest.raises(AuthenticationError):
        await authenticator.authenticate("Bearer not:a-token", "192.0.2.1")


async def test_a_token_ends_at_its_time(world: World, authenticator: Authenticator, clock: Clock) -> None:
    new = await world.token(AGENT, lifetime_s=10)
    await authenticator.authenticate(f"Bearer {new.token}")

    clock.now += 11

    with pytest.raises(AuthenticationError):
        await authenticator.authenticate(f"Bearer {new.token}")


async def test_a_revoked_token_is_refused_within_a_second(
    world: World, authenticator: Authenticator, clock: Clock
) -> None:
    new = await world.token(AGENT)
    await authenticator.authenticate(f"Bearer {new.token}")
    async with world.database.engine.begin() as connection:
        assert await revoke(connection, new.token)
        assert not await revoke(connection, new.row["id"])

    clock.now += 1

    with pytest.raises(AuthenticationError):
        await authenticator.authenticate(f"Bearer {new.token}")


async def test_a_forgotten_token_is_read_afresh(world: World, authenticator: Authenticator) -> None:
    new = await world.token(AGENT)
    await authenticator.authenticate(f"Bearer {new.token}")
    async with world.database.engine.begin() as connection:
        await revoke(connection, new.row["id"])
    await authenticator.authenticate(f"Bearer {new.token}")  # what was read is still believed

    authenticator.forget(new.row["id"])

    with pytest.raises(AuthenticationError):
        await authenticator.authenticate(f"Bearer {new.token}")


@pytest.mark.parametrize(
    ("column", "error"), [("suspended", RequesterSuspended), ("awaiting_approval", RequesterAwaitingApproval)]
)
async def test_an_agent_who_may_not_work_is_told_why(
    world: World, authenticator: Authenticator, column: str, error: type[ApiError]
) -> None:
    new = await world.token(AGENT)
    await world.change_agent(AGENT, **{column: True})

    with pytest.raises(error):
        await authenticator.authenticate(f"Bearer {new.token}")


async def test_an_expired_license_lets_nobody_in(world: World, authenticator: Authenticator) -> None:
    new = await world.token(OWNER)
    await world.change_license(expires_at="2020-01-01T00:00:00.000000Z")

    with pytest.raises(LicenseExpired):
        await authenticator.authenticate(f"Bearer {new.token}")


async def test_one_statement_serves_a_second_of_requests(
    world: World, authenticator: Authenticator, clock: Clock
) -> None:
    new = await world.token(AGENT)
    statements: list[str] = []
    event.listen(world.database.engine.sync_engine, "before_cursor_execute", lambda *args: statements.append(args[2]))

    for _ in range(3):
        await authenticator.authenticate(f"Bearer {new.token}")
    assert len(statements) == 1
    clock.now += 1
    await authenticator.authenticate(f"Bearer {new.token}")
    assert len(statements) == 2


async def test_the_database_holds_no_token(world: World) -> None:
    new = await world.token(AGENT)
    async with world.database.engine.connect() as connection:
        rows = (await connection.exec_driver_sql("SELECT * FROM tokens")).all()
    assert new.token.partition(":")[2] not in repr(rows)


@pytest.mark.parametrize(
    "header",
    [
        "",
        " ",
        "Bearer",
        "Bearer ",
        "Bearer \u2603",
        "Digest abc",
        "Basic",
        "Basic !",
        "Basic \u2603",
        "Basic YQ",  # no padding
        "Basic YQ==",  # no colon
        "Basic Og==",  # neither user nor token
        "Basic dXNlcjo=",  # no token
        "Basic OnRva2Vu",  # no user
        "Basic /////w==",  # not UTF-8
        "Bearer " + "x" * 1024,
    ],
)
def test_a_malformed_header_is_an_authentication_error(header: str) -> None:
    with pytest.raises(AuthenticationError):
        parse_authorization(header)


@given(st.text())
def test_whatever_a_header_holds_it_is_read_or_refused(header: str) -> None:
    for text in (header, f"Bearer {header}", f"Basic {header}"):
        try:
            credentials = parse_authorization(text)
        except AuthenticationError:
            continue
        assert credentials.token


@given(user=st.text(min_size=1, max_size=64).filter(lambda user: ":" not in user), token=st.text("ab:-_", min_size=1))
def test_basic_is_read_as_it_was_written(user: str, token: str) -> None:
    assert parse_authorization(basic(user, token)) == Credentials(user, token)


def test_no_two_tokens_are_the_same() -> None:
    made = [mint("access", license_id=LICENSE_ID, agent_id=AGENT, scopes=[], region="fra") for _ in range(100)]
    assert len({new.token for new in made}) == len({new.row["id"] for new in made}) == 100
    assert all(new.token.startswith("fra:") for new in made)
