"""The image and the compose file, as far as they can be checked where no container runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docker.compose import FILE, FOLDER, declared, services

BESIDE_PYTHON = Path(sys.executable).parent


def accepts(program: str, *arguments: str | Path) -> None:
    ended = subprocess.run([BESIDE_PYTHON / program, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_compose_file_keeps_to_the_specification() -> None:
    accepts("check-jsonschema", "--builtin-schema", "vendor.compose-spec", FILE)


def test_the_dockerfile_keeps_to_the_rules() -> None:
    accepts("hadolint", "--failure-threshold", "info", FOLDER / "Dockerfile")


@pytest.mark.parametrize("name", services())
def test_a_service_names_what_there_is(name: str) -> None:
    service = services()[name]
    for other, wanted in service.get("depends_on", {}).items():
        has_check = "healthcheck" in services()[other] or services()[other]["image"] == "rtm"
        assert wanted["condition"] != "service_healthy" or has_check
    assert set(service.get("networks", ())) <= declared("networks")
    for volume in service.get("volumes", ()):
        source = volume.partition(":")[0]
        assert source in declared("volumes") or (FOLDER / source).is_file()


def test_nothing_secret_is_written_down() -> None:
    for service in services().values():
        for value in service.get("environment", {}).values():
            assert not re.search(r"://[^/]*:[^/]*@", str(value))
    assert not re.search(r"(password|secret|token)[\"']?:\s*\S", FILE.read_text(), re.IGNORECASE)


def test_only_the_front_is_reached_from_outside() -> None:
    assert [name for name, service in services().items() if "ports" in service] == ["front"]
