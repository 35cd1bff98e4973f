"""The state machines: Hypothesis draws what is asked, and each step is compared with the protocol on every door.

`life` asks for anything, `routing` for what lets chats change hands. Steps are one request after another, several in a
row on one socket, and several at once from everywhere.
"""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Literal, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.lifecycle import wishes
from tests.lifecycle.people import SOCKETS, Seat
from tests.lifecycle.protocol import Chat
from tests.lifecycle.scene import Request, Scene, Stage
from tests.lifecycle.wishes import CHANGES, Draw, Wish

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, Any]], Any]


def machine_on(stage: Stage, run: Run, kind: Literal["life", "routing"] = "life") -> type[RuleBasedStateMachine]:
    """A machine that plays on these servers; `run` runs a coroutine to its end on their clients' loop."""
    base = _ChatLife if kind == "life" else _Routing

    class Machine(base):  # type: ignore[misc, valid-type]  # known only here
        def __init__(self) -> None:
            super().__init__(stage, run)

    return Machine


@st.composite
def _drawn(draw: st.DrawFn, wish: Callable[[Draw], T], *, sure: bool = False) -> T:
    machine = draw(st.runner())
    return wish(Draw(draw, machine.scene.protocol, sure=sure))


def _drawn_of_any(*some: Wish, sure: bool = False) -> st.SearchStrategy[Request]:
    return st.sampled_from(some).flatmap(partial(_drawn, sure=sure))


def _seat(request: Request) -> Seat:
    return request.seat


def _perform(machine: "_Machine", request: Request) -> None:
    machine.play(machine.scene.perform(request))


def _rule(wish: Wish, *, sure: bool = False) -> Any:
    """One request."""
    return rule(request=_drawn(wish, sure=sure))(_perform)


def _rule_while_any(of: Callable[[Chat], bool], wish: Wish, *, sure: bool = False) -> Any:
    """One request about a chat, while there is such a chat."""
    return precondition(lambda machine: any(map(of, machine.scene.protocol.chats[1:])))(_rule(wish, sure=sure))


_rule_of_chats = partial(_rule_while_any, lambda chat: True)
_rule_of_active = partial(_rule_while_any, lambda chat: chat.active)
_rule_of_inactive = partial(_rule_while_any, lambda chat: not chat.active)
_rule_of_attended = partial(_rule_while_any, lambda chat: chat.attended)
_sure_rule_of_active = partial(_rule_of_active, sure=True)
_sure_rule_of_attended = partial(_rule_of_attended, sure=True)


def _has_chats(machine: "_Machine") -> bool:
    return len(machine.scene.protocol.chats) > 1  # the first is the bell's


def _has_few_chats(machine: "_Machine") -> bool:
    """The fewer there are, the more happens to each."""
    return len(machine.scene.protocol.chats) < 4


def _has_closed_chats(machine: "_Machine") -> bool:
    return not all(chat.active for chat in machine.scene.protocol.chats)


def _has_few_open_chats(machine: "_Machine") -> bool:
    return sum(chat.active for chat in machine.scene.protocol.chats) < 9


def _at_once(*some: Wish, sure: bool = False) -> Any:
    """Different seats ask for something at the same time; some may be logging in."""
    any_of_them = _drawn_of_any(*some, wishes.come_back_meanwhile, sure=sure)

    def play(machine: "_Machine", requests: list[Request]) -> None:
        machine.play(machine.scene.perform_at_once(*requests))

    requests = st.lists(any_of_them, min_size=2, max_size=3, unique_by=_seat)
    return precondition(_has_chats)(rule(requests=requests)(play))


def _in_a_row(*some: Wish, sure: bool = False) -> Any:
    """One of the sockets asks for all of it without waiting for answers."""

    def play(machine: "_Machine", requests: list[Request]) -> None:
        seat = next((request.seat for request in requests if request.seat in SOCKETS), SOCKETS[0])
        machine.play(machine.scene.perform_in_a_row(*(Request(seat, *request[1:]) for request in requests)))

    requests = st.lists(_drawn_of_any(*some, sure=sure), min_size=2, max_size=4)
    return precondition(_has_chats)(rule(requests=requests)(play))


class _Machine(RuleBasedStateMachine):
    def __init__(self, stage: Stage, run: Run) -> None:
        super().__init__()
        self._run = run
        self._agrees = True
        self.scene: Scene = run(Scene.open(stage))

    def play(self, step: Coroutine[Any, Any, None]) -> None:
        """Raises AssertionError where server and protocol differ."""
        try:
            self._run(step)
        except BaseException:
            self._agrees = False
            raise

    def teardown(self) -> None:
        """Everybody looks at everything that is there, and hangs up."""
        try:
            if self._agrees:
                self.play(self.scene.perform(*wishes.look_around(self.scene.protocol)))
        finally:
            self._run(self.scene.close())


class _ChatLife(_Machine):
    first = initialize(request=_drawn(wishes.start))(_perform)
    start = precondition(_has_few_chats)(_rule(wishes.start))
    come_back = _rule(wishes.come_back)
    list_chats = _rule(wishes.list_chats)
    resume = _rule_of_inactive(wishes.resume)
    deactivate = _rule_of_active(wishes.deactivate)
    follow = _rule_of_chats(wishes.follow)
    unfollow = _rule_of_chats(wishes.unfollow)
    join = _rule_of_active(wishes.join)
    add = _rule_of_active(wishes.add)
    add_customer = _rule_of_attended(wishes.add_customer)
    leave = _rule_of_attended(wishes.leave)
    remove = _rule_of_attended(wishes.remove)
    transfer = _rule_of_active(wishes.transfer)
    transfer_to_groups = _rule_of_active(wishes.transfer_to_groups)
    set_status = _rule(wishes.set_status)
    send = _rule_of_chats(wishes.send)
    send_more = _rule_of_active(wishes.send)
    preview = _rule_of_active(wishes.preview)
    type_ = _rule_of_active(wishes.type_)
    think = _rule_of_active(wishes.think)
    mark_seen = _rule_of_chats(wishes.mark_seen)
    update_chat_properties = _rule_of_chats(wishes.update_chat_properties)
    delete_chat_properties = _rule_of_chats(wishes.delete_chat_properties)
    update_thread_properties = _rule_of_chats(wishes.update_thread_properties)
    delete_thread_properties = _rule_of_chats(wishes.delete_thread_properties)
    update_event_properties = _rule_of_chats(wishes.update_event_properties)
    delete_event_properties = _rule_of_chats(wishes.delete_event_properties)
    tag = _rule_of_chats(wishes.tag)
    untag = _rule_of_chats(wishes.untag)
    get_chat = _rule_of_chats(wishes.get_chat)
    list_threads = _rule_of_chats(wishes.list_threads)
    at_once = _at_once(*CHANGES)
    in_a_row = _in_a_row(*CHANGES)


def _perform_all(machine: "_Machine", requests: list[Request]) -> None:
    machine.play(machine.scene.perform(*requests))


class _Routing(_Machine):
    first = initialize(requests=_drawn(wishes.beginning, sure=True))(_perform_all)
    come_again = precondition(_has_closed_chats)(rule(requests=_drawn(wishes.come_again, sure=True))(_perform_all))
    start = precondition(_has_few_open_chats)(_rule(wishes.start_for_customer, sure=True))
    set_status = _rule(wishes.set_status, sure=True)
    remove = _sure_rule_of_attended(wishes.remove)
    remove_another = _sure_rule_of_attended(wishes.remove)
    transfer = _sure_rule_of_active(wishes.transfer)
    transfer_to_groups = _sure_rule_of_active(wishes.transfer_to_groups)
    join = _sure_rule_of_active(wishes.join)
    deactivate = _sure_rule_of_active(wishes.deactivate)
    add_customer = _sure_rule_of_attended(wishes.add_customer)
    follow = _rule_of_chats(wishes.follow)
    at_once = _at_once(*wishes.ROUTING_CHANGES, sure=True)
