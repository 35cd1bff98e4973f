"""A small world to try the server in: a real server on a real port, licenses with people, clients that are logged in.

Every license has the same people; each test gets a license of its own, so that tests share a server and nothing else.

    name    role            groups          name     role            groups
    olivia  owner                           dave     normal          Sales
    alice   administrator   Sales           erin     normal
    bob     administrator   Sales           sam      normal, suspended
    carol   administrator   Support         nina     normal, awaiting approval
    robin   a bot of the license's client   rosie    a bot of another client
    ada     a customer, with a visit        grace    a customer
"""

import asyncio
import base64
import contextlib
import itertools
import socket
import uuid
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any, Self

import httpx2
import orjson
import uvicorn
from sqlalchemy import insert, select, update
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from rtm import app
from rtm.access.founding import agent_row, bot_row, group_rows, license_row
from rtm.access.scopes import of_role
from rtm.access.tokens import NewToken, TokenKind, mint, revoke
from rtm.settings import Settings
from rtm.store import database, tables

SALES, SUPPORT = 1, 2
CLIENT_ID = "the-license's-client"
STABLE = "3.6"
_PATIENCE_S = 30
"""No test waits this long for what does come."""
SOON_S = 5
"""What is promised within a second takes no longer, on a busy machine."""

_PEOPLE = {
    "olivia": ("owner", ()),
    "alice": ("administrator", (SALES,)),
    "bob": ("administrator", (SALES,)),
    "carol": ("administrator", (SUPPORT,)),
    "dave": ("normal", (SALES,)),
    "erin": ("normal", ()),
    "sam": ("normal", ()),
    "nina": ("normal", ()),
}
_STANDING = {"sam": {"suspended": True}, "nina": {"awaiting_approval": True}}
_BOTS = {"robin": CLIENT_ID, "rosie": "another-client"}
VISIT = {"ip": "192.0.2.7", "started_at": "2026-01-01T00:00:00.000000Z"}
_CUSTOMERS: dict[str, dict[str, Any]] = {
    "ada": {"statistics": {"chats_count": 1, "tickets_count": 2}, "visit": VISIT, "phone_number": "+1 555 0100"},
    "grace": {},
}
_GROUPS = ["General", "Sales", "Support"]
TAGS = {"order": [SALES], "refund": [SALES, SUPPORT], "bug": [SUPPORT]}
"""The groups that each tag is for."""
_license_ids = itertools.count(1000)


@dataclass(frozen=True, slots=True)
class Refused:
    """The error that a request was answered with."""

    type: str
    message: str
    data: dict[str, Any] | None = None

    @classmethod
    def read(cls, payload: Any) -> Self:
        return cls(**payload["error"])


@dataclass(frozen=True, slots=True)
class Chat:
    """Where a chat is found."""

    id: str
    thread_id: str
    event_ids: tuple[str, ...] = ()


class Server:
    """The product in this process, on a port of its own."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = database.connect(settings)
        """The tests' own way to the data, as another process has it."""

    async def __aenter__(self) -> Self:
        await database.migrate(self.settings)
        parts = app.build(self.settings)
        config = uvicorn.Config(
            parts.asgi,
            ws=parts.accept,  # type: ignore[arg-type]  # called like the class it is declared as
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
        )
        self._server = _Server(config)
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = listener.getsockname()[1]
        self._serving = asyncio.create_task(self._server.serve([listener]))
        started = asyncio.create_task(self._server.has_started.wait())
        await asyncio.wait([self._serving, started], return_when=asyncio.FIRST_COMPLETED)
        if self._serving.done():
            started.cancel()
            await self._serving
            raise RuntimeError("the server did not start")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self.database.close()

    async def stop(self) -> None:
        """End as at SIGTERM."""
        self._server.should_exit = True
        await self._serving

    async def world(self) -> "World":
        """A new license with its people."""
        world = World(self, next(_license_ids))
        await world.create()
        return world


class _Server(uvicorn.Server):
    """Leaves signals to the tests and says when it accepts connections."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.has_started.set()


@dataclass
class World:
    """One license on a server; `connect` and `web` are for its people, the rest for what other processes change."""

    server: Server
    license_id: int
    organization_id: str = ""
    bots: dict[str, str] = field(default_factory=dict)
    customers: dict[str, str] = field(default_factory=dict)
    account_ids: dict[str, str] = field(default_factory=dict)
    _open: list["Client | Web"] = field(default_factory=list)

    async def create(self) -> None:
        """Write the license and its people."""
        license_ = license_row(self.license_id)
        self.organization_id = license_["organization_id"]
        people = [
            agent_row(self.license_id, _email(name), name=name.title(), role=role)
            for name, (role, _) in _PEOPLE.items()
        ]
        bots = [bot_row(self.license_id, name=name.title(), client_id=client) for name, client in _BOTS.items()]
        self.bots = {name: bot["id"] for name, bot in zip(_BOTS, bots, strict=True)}
        self.account_ids = {each["id"]: each["account_id"] for each in people}
        self.customers = {name: str(uuid.uuid4()) for name in _CUSTOMERS}
        memberships = [
            {"license_id": self.license_id, "group_id": group_id, "agent_id": _email(name)}
            for name, (_, group_ids) in _PEOPLE.items()
            for group_id in group_ids
        ]
        customers = [
            {
                "license_id": self.license_id,
                "id": self.customers[name],
                "name": name.title(),
                "email": f"{name}@example.net",
                "created_at": "2026-01-01T00:00:00.000000Z",
                "state": state,
            }
            for name, state in _CUSTOMERS.items()
        ]
        async with self.server.database.engine.begin() as connection:
            await connection.execute(insert(tables.licenses), license_)
            await connection.execute(insert(tables.agents), [*people, *bots])
            for name, values in _STANDING.items():
                await connection.execute(self._agent(name).values(**values))
            await connection.execute(insert(tables.groups), group_rows(self.license_id, _GROUPS))
            await connection.execute(insert(tables.group_agents), memberships)
            await connection.execute(insert(tables.customers), customers)
            await connection.execute(insert(tables.tags), [self._tag(*tag) for tag in TAGS.items()])

    async def close(self) -> None:
        """Hang up everywhere."""
        for client in self._open:
            await client.close()

    # Who is who

    def id(self, name: str) -> str:
        """The id of an agent, bot or customer."""
        return self.bots.get(name) or self.customers.get(name) or _email(name)

    async def mint(
        self, name: str, *, scopes: Iterable[str] | None = None, kind: TokenKind | None = None, **options: Any
    ) -> NewToken:
        """A new token, stored; it has every scope of the holder's role unless some are named."""
        role = _PEOPLE[name][0] if name in _PEOPLE else "administrator"
        defaults: dict[str, Any] = {"region": "dal", "client_id": CLIENT_ID}
        new = mint(
            kind or ("bot" if name in _BOTS else "access"),
            license_id=self.license_id,
            agent_id=self.id(name),
            scopes=of_role(role) if scopes is None else scopes,
            **(defaults | options),
        )
        async with self.server.database.engine.begin() as connection:
            await connection.execute(insert(tables.tokens), new.row)
        return new

    async def token(self, name: str, *, scopes: Iterable[str] | None = None, **options: Any) -> str:
        """The same, as the `Authorization` that shows it."""
        return f"Bearer {(await self.mint(name, scopes=scopes, **options)).token}"

    # Clients

    async def socket(self, version: str = STABLE, query: str = "") -> "Client":
        """A connection on which nobody has logged in."""
        client = await Client.open(self.server.port, version, query)
        self._open.append(client)
        return client

    async def agent(
        self,
        name: str,
        *,
        version: str = STABLE,
        scopes: Iterable[str] | None = None,
        token: str | None = None,
        **login: Any,
    ) -> "Client":
        """An agent, or a bot, logged in on a socket."""
        token = token or await self.token(name, scopes=scopes)
        client = await self.socket(version)
        client.id = self.id(name)
        client.greeting = await client.call("login", token=token, **login)
        await client.forget()
        return client

    async def agents(self, *names: str) -> list["Client"]:
        """Several of them."""
        return [await self.agent(name) for name in names]

    async def web(
        self, name: str, *, version: str = STABLE, scopes: Iterable[str] | None = None, token: str | None = None
    ) -> "Web":
        """An agent, or a bot, at the Web API."""
        web = Web(self.server.port, version, token or await self.token(name, scopes=scopes))
        web.id = self.id(name)
        self._open.append(web)
        return web

    # What it takes to begin

    async def chat(
        self,
        by: "Client | Web",
        *,
        group: int = SALES,
        users: Iterable[str] = (),
        texts: Iterable[str] = (),
        **options: Any,
    ) -> Chat:
        """A chat that `by` starts with these people and messages; its pushes are heard by then, and forgotten."""
        named = [{"id": self.id(name), "type": "customer" if name in self.customers else "agent"} for name in users]
        events = [{"type": "message", "text": text} for text in texts]
        chat = {"access": {"group_ids": [group]}, "users": named, "thread": {"events": events}}
        started = await by.call("start_chat", chat=chat, **options)
        for client in self._open:
            await client.forget()
        return Chat(started["chat_id"], started["thread_id"], tuple(started.get("event_ids", ())))

    # What other processes change

    async def change_agent(self, name: str, **values: Any) -> None:
        """As an action elsewhere does: the directory has another version then."""
        async with self.server.database.engine.begin() as connection:
            await connection.execute(self._agent(name).values(**values))
            await self._new_directory(connection)

    async def delete_agent(self, name: str) -> None:
        """The same; its tokens go with it."""
        of_agent = tables.agents.c.license_id == self.license_id, tables.agents.c.id == self.id(name)
        async with self.server.database.engine.begin() as connection:
            await connection.execute(tables.agents.delete().where(*of_agent))
            await self._new_directory(connection)

    async def set_groups(self, name: str, *group_ids: int) -> None:
        """Take the agent out of all groups and put it into these."""
        of_agent = tables.group_agents.c.license_id == self.license_id, tables.group_agents.c.agent_id == self.id(name)
        async with self.server.database.engine.begin() as connection:
            await connection.execute(tables.group_agents.delete().where(*of_agent))
            for group_id in group_ids:
                row = {"license_id": self.license_id, "group_id": group_id, "agent_id": self.id(name)}
                await connection.execute(insert(tables.group_agents), row)
            await self._new_directory(connection)

    async def change_license(self, **values: Any) -> None:
        """Change the license's row."""
        async with self.server.database.engine.begin() as connection:
            await connection.execute(
                update(tables.licenses).where(tables.licenses.c.id == self.license_id).values(**values)
            )

    async def revoke(self, token: NewToken) -> None:
        """Revoke a token, as `rtm token --revoke` does."""
        async with self.server.database.engine.begin() as connection:
            assert await revoke(connection, token.row["id"])

    async def stored_pushes(self) -> list[dict[str, Any]]:
        """The license's outbox, in order."""
        statement = (
            select(tables.outbox.c.envelope)
            .where(tables.outbox.c.license_id == self.license_id)
            .order_by(tables.outbox.c.sequence)
        )
        async with self.server.database.engine.connect() as connection:
            return list(await connection.scalars(statement))

    async def _new_directory(self, connection: Any) -> None:
        version = tables.licenses.c.directory_version
        of_license = tables.licenses.c.id == self.license_id
        await connection.execute(update(tables.licenses).where(of_license).values(directory_version=version + 1))

    def _tag(self, name: str, group_ids: list[int]) -> dict[str, Any]:
        return {
            "license_id": self.license_id,
            "name": name,
            "group_ids": group_ids,
            "author_id": _email("olivia"),
            "created_at": "2026-01-01T00:00:00.000000Z",
        }

    def _agent(self, name: str) -> Any:
        of_agent = tables.agents.c.license_id == self.license_id, tables.agents.c.id == self.id(name)
        return update(tables.agents).where(*of_agent)


class Client:
    """A connection, read in order: what comes while an answer is awaited is kept for `next_push`.

    Pushes named in `noise` are dropped: others log in and out all the time, each log-in is followed by customers, and
    what is counted of them comes when it has been read.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self.id = ""
        self.greeting: Any = None
        """What `login` was answered."""
        self.noise = {
            "routing_status_set",
            "groups_status_updated",
            "incoming_customers",
            "customer_statistics_updated",
        }
        self.connection = connection
        self._heard: deque[dict[str, Any]] = deque()
        self._request_ids = itertools.count(1)

    @classmethod
    async def open(cls, port: int, version: str = STABLE, query: str = "") -> Self:
        url = f"ws://127.0.0.1:{port}/v{version}/agent/rtm/ws{query}"
        options: dict[str, Any] = {"compression": None, "ping_interval": None, "close_timeout": 1}
        return cls(await connect(url, max_size=None, max_queue=None, **options))

    async def close(self) -> None:
        await self.connection.close()

    # Requests

    async def send(self, action: str, request_id: str | None = None, /, *, envelope: Any = None, **payload: Any) -> str:
        """Send a request and wait for nothing; its request id."""
        request_id = request_id or f"{action}-{next(self._request_ids)}"
        frame = {"action": action, "request_id": request_id, "payload": payload, **(envelope or {})}
        await self.connection.send(orjson.dumps(frame), text=True)
        return request_id

    async def answer(self, request_id: str) -> dict[str, Any]:
        """The whole response to a request that was sent."""
        kept: list[dict[str, Any]] = []
        while True:
            frame = self._heard.popleft() if self._heard else await self._receive()
            if frame["type"] == "response" and frame.get("request_id") == request_id:
                self._heard.extendleft(reversed(kept))
                return frame
            kept.append(frame)

    async def call(self, action: str, /, *, envelope: Any = None, **payload: Any) -> Any:
        """What the request is answered, when it is done."""
        response = await self.answer(await self.send(action, envelope=envelope, **payload))
        assert response["success"], response
        return response["payload"]

    async def refused(self, action: str, /, *, envelope: Any = None, **payload: Any) -> Refused:
        """Why the request is refused."""
        response = await self.answer(await self.send(action, envelope=envelope, **payload))
        assert not response["success"], response
        return Refused.read(response["payload"])

    # What is heard

    async def next(self) -> dict[str, Any]:
        """The next frame, whatever it is."""
        while True:
            frame = self._heard.popleft() if self._heard else await self._receive()
            if frame["action"] not in self.noise or frame["type"] != "push":
                return frame

    async def next_frame(self, name: str) -> dict[str, Any]:
        """The next frame, which must be this push."""
        frame = await self.next()
        assert (frame["type"], frame["action"]) == ("push", name), frame
        return frame

    async def next_push(self, name: str) -> Any:
        """Its payload."""
        return (await self.next_frame(name))["payload"]

    async def hears_nothing_more(self) -> None:
        """What was done before this call is delivered by now: a ping is answered, with nothing before the answer."""
        request_id = await self.send("ping")
        frame = await self.next()
        assert frame.get("request_id") == request_id, frame

    async def forget(self) -> None:
        """Hear and drop all that has happened before this call."""
        with contextlib.suppress(ConnectionClosed):
            await self.answer(await self.send("ping"))
        self._heard.clear()

    async def ended(self) -> tuple[dict[str, Any], int]:
        """The last push, `agent_disconnected`, and the close code after it."""
        last: dict[str, Any] = {}
        with contextlib.suppress(ConnectionClosed):
            while True:
                last = await self.next()
        assert last.get("action") == "agent_disconnected", (last, self.connection.protocol.close_exc)
        assert self.connection.close_code is not None
        return last["payload"], self.connection.close_code

    async def _receive(self) -> dict[str, Any]:
        async with asyncio.timeout(_PATIENCE_S):
            frame: dict[str, Any] = orjson.loads(await self.connection.recv())
        return frame


class Web:
    """The Web API with one token."""

    def __init__(self, port: int, version: str, authorization: str) -> None:
        self.id = ""
        self._client = httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": authorization}, timeout=_PATIENCE_S
        )
        self._prefix = f"/v{version}/agent/action/"

    async def close(self) -> None:
        await self._client.aclose()

    async def forget(self) -> None:
        """Nothing is heard here."""

    async def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Any HTTP request."""
        return await self._client.request(method, path, **options)

    async def post(self, action: str, payload: Any = None, **headers: str) -> httpx2.Response:
        """Call an action; `x_region="fra"` is a header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = orjson.dumps(payload if payload is not None else {})
        return await self._client.post(self._prefix + action, content=body, headers=named)

    async def call(self, action: str, /, **payload: Any) -> Any:
        """What the request is answered, when it is done."""
        response = await self.post(action, payload)
        assert response.status_code == 200, response.text
        return response.json()

    async def upload(self, name: str, content: bytes, field: str = "file") -> httpx2.Response:
        """Upload a file."""
        form = {field: (name, content)}
        return await self._client.post(self._prefix + "upload_file", files=form)

    async def refused(self, action: str, /, **payload: Any) -> Refused:
        """Why the request is refused."""
        response = await self.post(action, payload)
        assert response.status_code >= 400, response.text
        return Refused.read(response.json())


def basic(user: str, token: str) -> str:
    """`Authorization: Basic`."""
    return f"Basic {base64.b64encode(f'{user}:{token}'.encode()).decode()}"


def _email(name: str) -> str:
    return f"{name}@example.com"


@contextlib.asynccontextmanager
async def visiting(server: Server) -> AsyncIterator[World]:
    """A world for one test."""
    world = await server.world()
    try:
        yield world
    finally:
        await world.close()
