"""The pages show commands that exist, and what the site writes itself is there."""

from __future__ import annotations

import pytest

from tests.command_lines import check, lines_in
from tests.material import ROOT

PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "decisions" not in path.parts)
LINES = [
    pytest.param(*line, id=f"{path.relative_to(ROOT / 'docs').as_posix()}: {line[0]}")
    for path in PAGES
    for line in lines_in(path.read_text())
]


@pytest.mark.parametrize(("line", "is_complete"), LINES)
def test_commands_in_the_pages_exist_and_take_their_options(line: str, is_complete: bool) -> None:
    check(line, is_complete)


def test_a_line_that_is_wrong_is_found() -> None:
    text = "`walt-loop fleet --no-such-option` and\n\n    walt-loop nonsense x\nwalt-train mine DIR\n"
    found = lines_in(text)
    assert found == [
        ("walt-loop fleet --no-such-option", False),
        ("walt-loop nonsense x", True),
        ("walt-train mine DIR", True),
    ]
    for line, is_complete in found:
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            check(line, is_complete)
    check("walt-train mine DIR", is_complete=False)
