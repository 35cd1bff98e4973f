"""From a request to its answer, the same for both doors.

The door says who calls (`Caller`) and what to do with the answer (`reply`). Dispatch finds the action for that API and
version, checks scopes and quota, turns another version's payload into ours, validates it, and runs the handler
under the limit on time. Commands need no task of their own: the writer calls back.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

import anyio
import structlog

from rtm import versions
from rtm.access.bots import as_bot
from rtm.access.directory import Directory
from rtm.access.identity import Identity
from rtm.access.quota import Quota
from rtm.actions import registry
from rtm.actions.context import Context, Services, SocketSession
from rtm.actions.lane import Lane
from rtm.actions.registry import Action, Kind
from rtm.actions.shares import QUERIES_AT_ONCE, Shares
from rtm.model.payload import Payload
from rtm.outage import UNAVAILABLE
from rtm.protocol.envelope import Request
from rtm.protocol.errors import (
    ApiError,
    AuthenticationError,
    AuthorizationError,
    InternalError,
    NotFound,
    RequestTimeout,
    ServiceUnavailable,
    UnsupportedVersion,
    ValidationError,
)
from rtm.routing.presence import PATIENCE_S
from rtm.store.database import StoreUnavailable
from rtm.store.work import Command, Work

log = structlog.get_logger(__name__)

Reply = Callable[[Any], None]
"""Given the response's payload, or the ApiError that refuses the request; called once."""


@dataclass(slots=True)
class Caller:
    """Who asks, through which door; a socket's is made once and follows its session."""

    api: str
    transport: str
    version: str
    identity: Identity | None = None
    directory: Directory | None = None
    session: SocketSession | None = None
    lane: Lane | None = None


def answer_to(error: Exception, **context: Any) -> ApiError:
    """What a client is told of an exception; `context` goes to the log with what it is not told."""
    if isinstance(error, ApiError):
        return error.with_traceback(None)  # whose frames hold the outcome, which is the error
    if isinstance(error, TimeoutError):
        return RequestTimeout()
    if isinstance(error, UNAVAILABLE):
        log.warning("part_unavailable", reason=str(error), **context)
        return ServiceUnavailable(error.message if isinstance(error, StoreUnavailable) else None)
    log.error("handler_failed", exc_info=error, **context)
    return InternalError()


def _outcome(action: Action, context: Context, step: Callable[..., Any], *arguments: Any) -> Any:
    """What a step on the way to the answer gives, or the ApiError that it comes to."""
    try:
        return step(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is, who asked is answered
        return answer_to(error, action=action.name, **context.ids())


class Dispatcher:
    """Runs requests; `services` is what handlers work with."""

    def __init__(self, services: Services, quota: Quota) -> None:
        self._services = services
        self.quota = quota
        """What a license may ask in a minute."""
        self._timeout_s = services.settings.limits.request_timeout_s or math.inf
        self._shares = Shares(QUERIES_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def dispatch(self, caller: Caller, request: Request, reply: Reply) -> None:
        """Answer the request, now or later, through `reply`."""
        try:
            version = self._version(caller, request)
            action = self.admit(caller, request.action, version)
        except Exception as error:  # noqa: BLE001 - answered like those of actions
            reply(answer_to(error))
        else:
            self.execute(action, caller, request, version, reply)

    def execute(self, action: Action, caller: Caller, request: Request, version: str, reply: Reply) -> None:
        """Answer a request that was admitted."""
        try:
            payload = versions.read(version, action.payload, request.payload)
            context = self._context(action, caller, version, request)
        except Exception as error:  # noqa: BLE001 - the same
            reply(answer_to(error, action=action.name))
            return
        self._start(action, context, payload, caller.lane, reply)

    def _version(self, caller: Caller, request: Request) -> str:
        """The request's own version, if it names one; it may be newer than its connection's, not older."""
        version = request.version
        if version is None or version == caller.version:
            return caller.version
        if version not in versions.SERVED:
            raise UnsupportedVersion(f"`version` must be one of: {', '.join(versions.SERVED)}")
        if versions.SERVED.index(version) < versions.SERVED.index(caller.version):
            raise ValidationError(f"`version` must not be older than the connection's, {caller.version}")
        return version

    def admit(self, caller: Caller, name: str, version: str) -> Action:
        """The action of that name, if the caller may ask for it now. Raises ApiError."""
        action = registry.find(caller.api, name, version, caller.transport)
        identity = caller.identity
        if identity is None:
            if action is None or not action.before_login:
                raise AuthenticationError("Log in first")
            return action
        # A ping is free: who has spent the quota is still there, and may say so.
        if action is None or action.kind is not Kind.IMMEDIATE:
            self.quota.spend(identity.license_id)
        if action is None:
            raise _no_such_action(caller, name, version)
        if action.scopes and action.scopes.isdisjoint(identity.scopes):
            raise AuthorizationError(f"Token lacks the scope: {' or '.join(sorted(action.scopes))}")
        return action

    def _context(self, action: Action, caller: Caller, version: str, request: Request) -> Context:
        identity = caller.identity
        author_id = request.author_id
        if author_id is not None and identity is not None and versions.bots_by_author_id(version):
            assert caller.directory is not None
            bot = as_bot(identity, caller.directory, author_id)
            if action.kind is not Kind.QUERY:  # what the bot may read is not shown to who may not
                identity = bot
        return Context(
            self._services,
            version=version,
            transport=caller.transport,
            session=caller.session,
            identity=identity,
            directory=caller.directory,
            request_id=request.request_id,
        )

    def _start(self, action: Action, context: Context, payload: Payload, lane: Lane | None, reply: Reply) -> None:
        if action.kind is Kind.COMMAND:
            self._command(action, context, payload, lane, reply)
        elif action.kind is Kind.IMMEDIATE:
            self._finish(action, context, reply, _outcome(action, context, action.handler, context, payload))
        elif action.kind is Kind.QUERY and not action.takes_form:  # uploads have their own limits
            self._spawn(self._query(action, context, payload, lane, reply))
        elif lane is None:
            self._spawn(self._run(action, context, payload, None, reply, self._timeout_s))
        else:
            self._change(action, context, payload, lane, reply)

    def _change(self, action: Action, context: Context, payload: Payload, lane: Lane, reply: Reply) -> None:
        expires_at = monotonic() + self._timeout_s

        def start() -> None:
            self._spawn(self._run_alone(action, context, payload, lane, reply, expires_at - monotonic()))

        if lane.enter(alone=True):
            start()
        else:
            overdue = partial(self._finish, action, context, reply, RequestTimeout())
            lane.wait(start, overdue, alone=True, expires_at=expires_at)

    def _command(self, action: Action, context: Context, payload: Payload, lane: Lane | None, reply: Reply) -> None:
        def done(outcome: Any) -> None:
            if lane is not None:
                lane.exit()
            self._finish(action, context, reply, outcome)

        def apply(work: Work) -> Any:
            return action.handler(context, work, payload)

        needs = _outcome(action, context, action.needs, payload)
        if isinstance(needs, ApiError):
            self._finish(action, context, reply, needs)
            return
        command = Command(
            license_id=context.identity.license_id,
            needs=needs,
            apply=apply,
            done=done,
            stores=action.stores,
            origin=context.origin,
        )
        start = partial(self._services.writer.submit, command)
        if action.statuses:  # nothing of this connection passes it meanwhile
            start = partial(self._submit_with_statuses, context, command)
        if lane is None or lane.enter(alone=action.statuses):
            start()
        else:
            command.expires_at = monotonic() + self._timeout_s
            overdue = partial(self._finish, action, context, reply, RequestTimeout())
            lane.wait(start, overdue, alone=action.statuses, expires_at=command.expires_at)

    def _submit_with_statuses(self, context: Context, command: Command) -> None:
        async def read_and_submit() -> None:
            license_id, directory = context.identity.license_id, context.directory
            try:
                with anyio.fail_after(self._timeout_s):
                    context.statuses = await self._services.presence.statuses(
                        license_id, directory.agents, patience_s=PATIENCE_S
                    )
            except Exception as error:  # noqa: BLE001 - answered as those of any action
                command.done(answer_to(error, **context.ids()))
            else:
                self._services.writer.submit(command)

        self._spawn(read_and_submit())

    async def _query(self, action: Action, context: Context, payload: Payload, lane: Lane | None, reply: Reply) -> None:
        expires_at = monotonic() + self._timeout_s
        of_connection = nullcontext() if lane is None else lane.queries
        async with of_connection, self._shares.of(context.identity.license_id):
            await self._run(action, context, payload, None, reply, expires_at - monotonic())

    async def _run_alone(
        self, action: Action, context: Context, payload: Payload, lane: Lane, reply: Reply, timeout_s: float
    ) -> None:
        session = context.require_session()
        session.change_begins()
        try:
            await self._run(action, context, payload, lane, reply, timeout_s)
        finally:
            session.change_answered()

    async def _run(
        self,
        action: Action,
        context: Context,
        payload: Payload,
        lane: Lane | None,
        reply: Reply,
        timeout_s: float,
    ) -> None:
        outcome: Any
        try:
            with anyio.fail_after(timeout_s):
                outcome = await action.handler(context, payload)
        except Exception as error:  # noqa: BLE001 - answered, whatever it is
            outcome = answer_to(error, action=action.name, **context.ids())
        finally:
            if lane is not None:
                lane.exit()
        self._finish(action, context, reply, outcome)

    def _finish(self, action: Action, context: Context, reply: Reply, outcome: Any) -> None:
        if not isinstance(outcome, ApiError):
            outcome = _outcome(action, context, versions.response_for, context.version, action.response, outcome)
        reply(outcome)
        if not isinstance(outcome, ApiError):
            for follow_up in context.after_reply:
                try:
                    follow_up()
                except Exception:  # the others do not depend on it: a log-in is finished by one of them
                    log.exception("after_reply_failed", action=action.name, **context.ids())
        context.after_reply.clear()  # they hold the context

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _no_such_action(caller: Caller, name: str, version: str) -> NotFound:
    for transport, door in ((registry.RTM, "sockets"), (registry.WEB, "the Web API")):
        if registry.find(caller.api, name, version, transport):
            return NotFound(f"`action` is for {door} only: {name}")
    return NotFound(f"`action` is unknown to version {version}: {name[:64]}")
