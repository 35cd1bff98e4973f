"""Whatever agents do to chats, all of them see what the protocol says, in its order: on one process, and on two."""

import asyncio
from typing import Literal

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.lifecycle.machine import machine_on
from tests.lifecycle.scene import Stage

SHORT = settings(
    stateful_step_count=40,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],  # to find shorter steps that fail takes minutes: see LONG
    suppress_health_check=list(HealthCheck),
)
LONG = settings(SHORT, max_examples=100, derandomize=False, print_blob=True, phases=[Phase.generate, Phase.shrink])
"""Other steps each time; what fails is told with its seed (`--hypothesis-seed`)."""


@pytest.mark.timeout(300)
def test_everybody_sees_what_the_protocol_says(one_process: Stage, runner: asyncio.Runner) -> None:
    run_state_machine_as_test(machine_on(one_process, runner.run), settings=settings(SHORT, max_examples=15))


@pytest.mark.timeout(300)
def test_it_is_the_same_on_two_processes(two_processes: Stage, runner: asyncio.Runner) -> None:
    run_state_machine_as_test(machine_on(two_processes, runner.run), settings=settings(SHORT, max_examples=8))


@pytest.mark.timeout(300)
def test_chats_are_given_to_whom_the_protocol_says(one_process: Stage, runner: asyncio.Runner) -> None:
    steps = settings(SHORT, max_examples=6)
    run_state_machine_as_test(machine_on(one_process, runner.run, "routing"), settings=steps)


@pytest.mark.timeout(300)
def test_they_are_on_two_processes(two_processes: Stage, runner: asyncio.Runner) -> None:
    steps = settings(SHORT, max_examples=3)
    run_state_machine_as_test(machine_on(two_processes, runner.run, "routing"), settings=steps)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("stage", ["one_process", "two_processes"])
@pytest.mark.parametrize("kind", ["life", "routing"])
def test_for_long(
    stage: str, kind: Literal["life", "routing"], runner: asyncio.Runner, request: pytest.FixtureRequest
) -> None:
    run_state_machine_as_test(machine_on(request.getfixturevalue(stage), runner.run, kind), settings=LONG)
