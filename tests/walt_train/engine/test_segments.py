from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walt_train.engine.plan import RESUME, FitError
from walt_train.engine.segments import SEGMENTS, Segment, go_on, pictures_before, read_segments, write_segments


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=6), st.integers(1, 4))
def test_no_picture_is_shown_twice_or_left_out(stretches: list[tuple[int, int]], batch: int) -> None:
    segments: list[Segment] = []
    step = taken = 0
    for steps, processes in stretches:
        segments.append(Segment(step, processes))
        for _ in range(steps):
            assert pictures_before(segments, step, batch) == taken
            taken += processes * batch
            step += 1


def test_going_on_forgets_what_never_came_to_be(tmp_path: Path) -> None:
    assert go_on(tmp_path, 0, 4) == (Segment(0, 4),)
    (tmp_path / RESUME).mkdir()
    write_segments(tmp_path, (Segment(0, 4), Segment(50, 3), Segment(80, 2)))
    assert go_on(tmp_path, 60, 3) == (Segment(0, 4), Segment(50, 3))
    assert go_on(tmp_path, 80, 4) == (Segment(0, 4), Segment(50, 3), Segment(80, 4))
    assert go_on(tmp_path, 0, 1) == (Segment(0, 1),)
    assert read_segments(tmp_path)[-1] == Segment(80, 2)


def test_unreadable_notes_are_one_line(tmp_path: Path) -> None:
    (tmp_path / RESUME).mkdir()
    (tmp_path / RESUME / SEGMENTS).write_text("{")
    with pytest.raises(FitError, match=r"remove .* to begin anew") as caught:
        go_on(tmp_path, 0, 1)
    assert "\n" not in str(caught.value)
