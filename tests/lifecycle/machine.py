"""The state machine: Hypothesis draws what is asked, and each step is compared with `Protocol` on every door.

Steps are one request after another, several in a row on one socket, and several at once from everywhere.
"""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.lifecycle import wishes
from tests.lifecycle.people import SOCKETS, Seat
from tests.lifecycle.protocol import Chat
from tests.lifecycle.scene import Request, Scene, Stage
from tests.lifecycle.wishes import CHANGES, Draw, Wish

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def machine_on(stage: Stage, run: Run) -> type[RuleBasedStateMachine]:
    """A machine that plays on these servers; `run` runs a coroutine to its end on their clients' loop."""

    class ChatLife(_ChatLife):
        def __init__(self) -> None:
            super().__init__(stage, run)

    return ChatLife


@st.composite
def _drawn(draw: st.DrawFn, wish: Wish) -> Request:
    machine = draw(st.runner())
    return wish(Draw(draw, machine.scene.protocol))


def _drawn_of_any(*some: Wish) -> st.SearchStrategy[Request]:
    return st.sampled_from(some).flatmap(_drawn)


def _seat(request: Request) -> Seat:
    return request.seat


def _perform(machine: "_ChatLife", request: Request) -> None:
    machine.play(machine.scene.perform(request))


def _rule(wish: Wish) -> Any:
    """One request."""
    return rule(request=_drawn(wish))(_perform)


def _rule_while_any(of: Callable[[Chat], bool], wish: Wish) -> Any:
    """One request about a chat, while there is such a chat."""
    return precondition(lambda machine: any(map(of, machine.scene.protocol.chats[1:])))(_rule(wish))


_rule_of_chats = partial(_rule_while_any, lambda chat: True)
_rule_of_active = partial(_rule_while_any, lambda chat: chat.active)
_rule_of_inactive = partial(_rule_while_any, lambda chat: not chat.active)
_rule_of_attended = partial(_rule_while_any, lambda chat: chat.attended)
_rule_among_agents = partial(_rule_while_any, lambda chat: chat.among_agents)


def _has_chats(machine: "_ChatLife") -> bool:
    return len(machine.scene.protocol.chats) > 1  # the first is the bell's


def _has_few_chats(machine: "_ChatLife") -> bool:
    """The fewer there are, the more happens to each."""
    return len(machine.scene.protocol.chats) < 4


class _ChatLife(RuleBasedStateMachine):
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
    leave = _rule_among_agents(wishes.leave)
    remove = _rule_among_agents(wishes.remove)
    transfer = _rule_of_active(wishes.transfer)
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

    @precondition(_has_chats)
    @rule(requests=st.lists(_drawn_of_any(*CHANGES, wishes.come_back), min_size=2, max_size=3, unique_by=_seat))
    def at_once(self, requests: list[Request]) -> None:
        """Different seats ask for something at the same time; some may be logging in."""
        self.play(self.scene.perform_at_once(*requests))

    @precondition(_has_chats)
    @rule(requests=st.lists(_drawn_of_any(*CHANGES), min_size=2, max_size=4))
    def in_a_row(self, requests: list[Request]) -> None:
        """One of the sockets asks for all of it without waiting for answers."""
        seat = next((request.seat for request in requests if request.seat in SOCKETS), SOCKETS[0])
        self.play(self.scene.perform_in_a_row(*(Request(seat, *request[1:]) for request in requests)))

    def teardown(self) -> None:
        """Everybody looks at everything that is there, and hangs up."""
        try:
            if self._agrees:
                self.play(self.scene.perform(*wishes.look_around(self.scene.protocol)))
        finally:
            self._run(self.scene.close())
