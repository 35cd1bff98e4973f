"""How an action is declared, and the catalogue of all that are.

    @action(AGENT, scopes=("chats--all:rw", "chats--access:rw"), pushes=("incoming_event",), needs=of_chat)
    def send_event(context: Context, work: Work, payload: SendEvent) -> EventSent: ...

What a handler is says how it runs:

    command     a plain function of a unit of work: joins the group commit, in the order of its connection
    change      an async function declared `ordered`: waits for the earlier changes of its connection
    query       any other async function: runs at once, beside others
    immediate   a plain function without `needs`: answered before the next frame is read
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from types import ModuleType
from typing import Any, TypeVar, get_type_hints

from rtm import versions
from rtm.model.payload import Payload
from rtm.store.work import Needs

AGENT = "agent"
RTM = "rtm"
WEB = "web"
BOTH = (RTM, WEB)

Handler = TypeVar("Handler", bound=Callable[..., Any])


class Kind(Enum):
    """How a handler runs."""

    COMMAND = "command"
    CHANGE = "change"
    QUERY = "query"
    IMMEDIATE = "immediate"


@dataclass(frozen=True, slots=True)
class Action:
    """One entry of the catalogue."""

    api: str
    name: str
    payload: type[Payload]
    response: Any
    """The class of what the handler answers, of `rtm.model.responses` or `shown`."""
    handler: Callable[..., Any]
    kind: Kind
    scopes: frozenset[str]
    """One of these is needed; none when empty."""
    pushes: tuple[str, ...]
    transports: tuple[str, ...]
    before_login: bool
    needs: Callable[[Any], Needs]
    statuses: bool
    stores: bool
    takes_form: bool
    """Whether a request's body is a form with a file, in place of JSON."""

    @property
    def topic(self) -> str:
        """The module that it is declared in."""
        return self.handler.__module__.rpartition(".")[2]


_catalogue: dict[tuple[str, str], Action] = {}


def action(
    api: str,
    *,
    scopes: tuple[str, ...] = (),
    pushes: tuple[str, ...] = (),
    transports: tuple[str, ...] = BOTH,
    needs: Callable[[Any], Needs] | None = None,
    statuses: bool = False,
    stores: bool = True,
    ordered: bool = False,
    before_login: bool = False,
    takes_form: bool = False,
) -> Callable[[Handler], Handler]:
    """Declare the function below as the action of its name.

    Its annotations say what the action takes, by the parameter `payload`, and what it answers.

    `needs` makes it a command and says what to load; one with `statuses` finds those of all agents in its context, as
    they were shortly before; `stores` is False for a command that only pushes.
    """

    def declare(handler: Handler) -> Handler:
        name, hints = handler.__name__, get_type_hints(handler, include_extras=True)
        if (api, name) in _catalogue:
            raise ValueError(f"{api}: {name} is declared twice")
        _catalogue[api, name] = Action(
            api=api,
            name=name,
            payload=hints["payload"],
            response=hints["return"],
            handler=handler,
            kind=_kind(handler, needs is not None, ordered),
            scopes=frozenset(scopes),
            pushes=pushes,
            transports=transports,
            before_login=before_login,
            needs=needs or (lambda payload: Needs()),
            statuses=statuses,
            stores=stores,
            takes_form=takes_form,
        )
        return handler

    return declare


def _kind(handler: Callable[..., Any], has_needs: bool, ordered: bool) -> Kind:
    if inspect.iscoroutinefunction(handler):
        return Kind.CHANGE if ordered else Kind.QUERY
    return Kind.COMMAND if has_needs else Kind.IMMEDIATE


def load(package: ModuleType) -> None:
    """Import every module of the package, so that its actions are in the catalogue."""
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)


def find(api: str, name: str, version: str, transport: str) -> Action | None:
    """The action of that name, if the version and the transport have it."""
    found = _catalogue.get((api, name))
    if found is None or transport not in found.transports or not versions.has_action(version, name):
        return None
    return found


def served(api: str, version: str) -> list[Action]:
    """Every action that the version has, at either door, by topic and name."""
    known = [each for each in _catalogue.values() if each.api == api and versions.has_action(version, each.name)]
    return sorted(known, key=lambda each: (each.topic, each.name))


def is_known(api: str, name: str) -> bool:
    """Whether any version has an action of that name."""
    return (api, name) in _catalogue


def listing() -> list[dict[str, Any]]:
    """Every action with its version, transport, scopes and dotted parameter names."""
    from rtm.actions import agent

    load(agent)
    return [
        {
            "api": found.api,
            "version": version,
            "transport": transport,
            "action": found.name,
            "scopes": sorted(found.scopes),
            "pushes": list(found.pushes),
            "parameters": versions.parameters(version, found.payload),
        }
        for found in _catalogue.values()
        for version in versions.SERVED
        if versions.has_action(version, found.name)
        for transport in found.transports
    ]
