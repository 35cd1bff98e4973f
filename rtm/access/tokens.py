"""Tokens: how they are made, and who holds the one that a request brings.

A token is `<region>:<random text>`. Only its SHA-256 is stored: 256 random bits need no slow hash.
"""

import hashlib
import hmac
import re
import secrets
import time
import uuid
from base64 import b64decode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

from sqlalchemy import Select, and_, bindparam, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from rtm.access.attempts import Attempts
from rtm.access.identity import Identity
from rtm.access.scopes import expand, of_role
from rtm.protocol.errors import (
    AuthenticationError,
    LicenseExpired,
    MisdirectedRequest,
    RequesterAwaitingApproval,
    RequesterSuspended,
)
from rtm.protocol.timestamps import now, seconds_after
from rtm.settings import REGION
from rtm.store.database import Database
from rtm.store.tables import agents, licenses, tokens

TokenKind = Literal["personal", "access", "bot"]

REGIONS = frozenset({"dal", "fra"})
"""The contract's regions; other systems may have others."""
_MINTED = re.compile(rf"{REGION}:[A-Za-z0-9_-]{{43}}")
"""A token as `mint` makes them, in this system or another."""

_MAX_HEADER_LENGTH = 1024
# The Web API authenticates at every request; a revocation must be in force within a second.
_CACHE_AGE_S = 1.0
_CACHE_SIZE = 10_000


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just made: the text for its holder, and the row for `store.tables.tokens`."""

    token: str
    row: dict[str, Any]


def mint(
    kind: TokenKind,
    *,
    license_id: int,
    agent_id: str,
    scopes: Iterable[str],
    region: str,
    client_id: str | None = None,
    lifetime_s: float | None = None,
) -> NewToken:
    """A token for an agent or bot; without `lifetime_s` it lasts until it is revoked. Stores nothing."""
    token = f"{region}:{secrets.token_urlsafe(32)}"
    created_at = now()
    row = {
        "id": uuid.uuid4().hex,
        "hash": digest(token),
        "kind": kind,
        "license_id": license_id,
        "agent_id": agent_id,
        "client_id": client_id,
        "scopes": sorted(scopes),
        "created_at": created_at,
        "expires_at": None if lifetime_s is None else seconds_after(created_at, lifetime_s),
        "revoked_at": None,
    }
    return NewToken(token, row)


def digest(token: str) -> bytes:
    """What is stored of a token."""
    return hashlib.sha256(token.encode()).digest()


async def revoke(connection: AsyncConnection, token_or_id: str) -> bool:
    """Revoke the token, named by itself or by its id; False when there is none, or no longer."""
    statement = (
        update(tokens)
        .where(or_(tokens.c.id == token_or_id, tokens.c.hash == digest(token_or_id)), tokens.c.revoked_at.is_(None))
        .values(revoked_at=now())
    )
    return (await connection.execute(statement)).rowcount == 1


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an `Authorization` header holds; `user` is None for Bearer."""

    user: str | None
    token: str


def parse_authorization(header: str) -> Credentials:
    """`Bearer <token>` or `Basic <base64 of user:token>`. Raises AuthenticationError for anything else."""
    if len(header) > _MAX_HEADER_LENGTH:
        raise AuthenticationError
    scheme, _, value = header.strip().partition(" ")
    value = value.strip()
    match scheme.lower():
        case "bearer" if value and value.isascii():
            return Credentials(None, value)
        case "basic":
            try:
                user, _, token = b64decode(value, validate=True).decode().partition(":")
            except ValueError:
                raise AuthenticationError from None
            if user and token:
                return Credentials(user, token)
    raise AuthenticationError


@dataclass(frozen=True, slots=True)
class _Holder:
    """A token's row with its agent's and its license's, as read at `read_at`."""

    identity: Identity
    account_id: str
    revoked: bool
    suspended: bool
    awaiting_approval: bool
    license_expires_at: float | None
    read_at: float


class Authenticator:
    """Tells who holds a token; what it read from the database is at most a second old."""

    def __init__(
        self, database: Database, attempts: Attempts, *, region: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._attempts = attempts
        self._region = region
        self._clock = clock
        # In the order of reading, which is the order of leaving.
        self._cache: dict[bytes, _Holder] = {}

    async def authenticate(self, authorization: str, address: str | None = None, *, login: bool = False) -> Identity:
        """The holder of the token in an `Authorization` header or, with `login`, in a socket's log-in from `address`.

        Raises AuthenticationError, TooManyRequests, MisdirectedRequest, LicenseExpired, RequesterSuspended or
        RequesterAwaitingApproval.
        """
        credentials = parse_authorization(authorization)
        region, colon, _ = credentials.token.partition(":")
        if colon and region != self._region and (region in REGIONS or _MINTED.fullmatch(credentials.token)):
            raise MisdirectedRequest(region)
        key = digest(credentials.token)
        self._attempts.begin(address, key, login=login)
        try:
            holder = await self._holder(key)
            self._check(holder, credentials)
        except AuthenticationError:
            self._attempts.failed(address, key, login=login)
            raise
        self._attempts.succeeded(key)
        return holder.identity

    def forget(self, token_id: str) -> None:
        """Read this token afresh the next time."""
        for key, holder in list(self._cache.items()):
            if holder.identity.token_id == token_id:
                del self._cache[key]

    def _check(self, holder: _Holder, credentials: Credentials) -> None:
        identity, now = holder.identity, self._clock()
        if holder.revoked or (identity.expires_at is not None and identity.expires_at <= now):
            raise AuthenticationError
        if credentials.user is not None and not _same_user(credentials.user, holder):
            raise AuthenticationError
        if holder.license_expires_at is not None and holder.license_expires_at <= now:
            raise LicenseExpired
        if holder.suspended:
            raise RequesterSuspended
        if holder.awaiting_approval:
            raise RequesterAwaitingApproval

    async def _holder(self, key: bytes) -> _Holder:
        now = self._clock()
        holder = self._cache.get(key)
        if holder is not None and 0 <= now - holder.read_at < _CACHE_AGE_S:
            return holder
        async with self._database.engine.connect() as connection:
            row = (await connection.execute(_HOLDER, {"hash": key})).one_or_none()
        if row is None:
            raise AuthenticationError
        holder = _holder_of(row, read_at=now)
        self._remember(key, holder)
        return holder

    def _remember(self, key: bytes, holder: _Holder) -> None:
        self._cache.pop(key, None)
        self._cache[key] = holder
        while True:
            oldest = next(iter(self._cache))
            fresh = holder.read_at - self._cache[oldest].read_at < _CACHE_AGE_S
            if fresh and len(self._cache) <= _CACHE_SIZE:
                return
            del self._cache[oldest]


def _holder_query() -> Select[Any]:
    return (
        select(
            tokens,
            agents.c.kind.label("agent_kind"),
            agents.c.account_id,
            agents.c.role,
            agents.c.suspended,
            agents.c.awaiting_approval,
            licenses.c.organization_id,
            licenses.c.expires_at.label("license_expires_at"),
        )
        .join(agents, and_(agents.c.license_id == tokens.c.license_id, agents.c.id == tokens.c.agent_id))
        .join(licenses, licenses.c.id == tokens.c.license_id)
        .where(tokens.c.hash == bindparam("hash"))
    )


_HOLDER = _holder_query()


def _holder_of(row: Any, read_at: float) -> _Holder:
    identity = Identity(
        license_id=row.license_id,
        organization_id=row.organization_id,
        agent_id=row.agent_id,
        kind=row.agent_kind,
        role=row.role,
        client_id=row.client_id,
        scopes=_scopes(tuple(row.scopes), None if row.agent_kind == "bot" else row.role),
        token_id=row.id,
        personal=row.kind == "personal",
        expires_at=_seconds(row.expires_at),
    )
    return _Holder(
        identity=identity,
        account_id=row.account_id,
        revoked=row.revoked_at is not None,
        suspended=row.suspended,
        awaiting_approval=row.awaiting_approval,
        license_expires_at=_seconds(row.license_expires_at),
        read_at=read_at,
    )


@lru_cache(maxsize=1024)  # thousands of sessions have the same few sets, of some kilobytes each
def _scopes(named: tuple[str, ...], role: str | None) -> frozenset[str]:
    """What a token with these scopes may do now: its agent may have lost a role since; a bot has its client's."""
    scopes = expand(named)
    return scopes if role is None else scopes & of_role(role)


def _same_user(user: str, holder: _Holder) -> bool:
    """Whether `user` is the holder's account id, e-mail or bot id; takes as long whichever it is."""
    given = user.casefold().encode()
    is_account = hmac.compare_digest(given, holder.account_id.casefold().encode())
    is_agent = hmac.compare_digest(given, holder.identity.agent_id.casefold().encode())
    return is_account or is_agent


def _seconds(timestamp: str | None) -> float | None:
    return None if timestamp is None else datetime.fromisoformat(timestamp).timestamp()
