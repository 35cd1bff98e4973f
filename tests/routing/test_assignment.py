"""Who is given a chat: never one without room, never a supervisor, the least busy, and equals in turn."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtm.routing.assignment import PRIORITIES, Candidate, choose

PRIORITY = st.sampled_from([*PRIORITIES, "supervisor"])
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        agent_id=st.sampled_from("abcdefgh"),
        priorities=st.lists(PRIORITY, max_size=3).map(tuple),
        load=st.integers(0, 8),
        limit=st.integers(0, 6),
        given_at=st.sampled_from(["", "2026-01-01", "2026-01-02"]),
    ),
    unique_by=lambda each: each.agent_id,
)


@given(CANDIDATES, st.sampled_from([None, *"abcdefgh"]))
def test_nobody_is_given_more_than_the_limit_and_supervisors_are_given_nothing(
    candidates: list[Candidate], preferred: str | None
) -> None:
    by_id = {each.agent_id: each for each in candidates}
    chosen = choose(candidates, preferred)

    if chosen is None:
        assert not any(each.is_free for each in candidates)
        return
    assert by_id[chosen].load < by_id[chosen].limit
    assert set(by_id[chosen].priorities) & set(PRIORITIES)
    if preferred in by_id and by_id[preferred].is_free:
        assert chosen == preferred


@given(CANDIDATES)
def test_whoever_is_chosen_has_the_best_priority_and_then_the_least_to_do(candidates: list[Candidate]) -> None:
    chosen = next((each for each in candidates if each.agent_id == choose(candidates)), None)
    for other in candidates:
        if chosen is not None and other.is_free:
            assert chosen.rank <= other.rank
            if chosen.rank == other.rank:
                assert chosen.load / chosen.limit <= other.load / other.limit


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 30))
def test_equals_are_given_chats_in_turn_up_to_their_limits(agents: int, limit: int, chats: int) -> None:
    loads: Counter[str] = Counter()
    turns: dict[str, str] = {}
    given_to = []
    for number in range(chats):
        chosen = choose(
            Candidate(name, ("normal",), loads[name], limit, turns.get(name, "")) for name in "edcba"[:agents]
        )
        if chosen is not None:
            loads[chosen] += 1
            turns[chosen] = f"{number:04}"
            given_to.append(chosen)

    assert len(given_to) == min(chats, agents * limit)
    order = given_to[:agents]
    assert len(set(order)) == len(order)
    assert given_to == [order[place % agents] for place in range(len(given_to))]


@given(CANDIDATES, st.randoms(use_true_random=False))
def test_the_choice_does_not_depend_on_the_order_they_are_named_in(candidates: list[Candidate], random: object) -> None:
    shuffled = candidates.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose(candidates) == choose(shuffled)


@pytest.mark.parametrize(
    ("priorities", "rank"),
    [(("last", "first"), 0), (("supervisor", "last"), 2), (("supervisor",), 3), ((), 3), (("unknown",), 3)],
)
def test_the_best_of_several_priorities_counts(priorities: tuple[str, ...], rank: int) -> None:
    assert Candidate("a", priorities, 0, 1).rank == rank
