"""The map is that of the land: what says what files are for names them all, and no others."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = [each.parent for name in ("rtm/*/", "bench/") for each in sorted(ROOT.glob(f"{name}**/__init__.py"))]


def contents(folder: Path) -> set[str]:
    """Its modules, and the folders that hold some."""
    modules = {each.name for each in folder.glob("*.py")} - {"__init__.py", "__main__.py"}
    return modules | {f"{each.parent.name}/" for each in folder.glob("*/*.py")}


@pytest.mark.parametrize("room", [str(room.relative_to(ROOT)) for room in ROOMS])
def test_a_room_says_what_its_files_are_for(room: str) -> None:
    docstring = (ROOT / room / "__init__.py").read_text().split('"""')[1]
    named = re.findall(r"^ *(\w+(?:\.py|/)) ", docstring, re.MULTILINE)
    assert set(named) - {"__main__.py"} == contents(ROOT / room)


def test_the_map_has_every_room() -> None:
    table = (ROOT / "docs/architecture.md").read_text().partition("| room |")[2].partition("\n\n")[0]
    named = [name for row in table.splitlines()[2:] for name in re.findall(r"`(.+?)`", row.split(" | ")[0])]
    assert set(named) == contents(ROOT / "rtm")
