"""Forgetting that is killed at any step is completed by the next one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from sqlalchemy import select
from sqlalchemy.engine.default import DefaultDialect

from tests.walt_train.loop.lineage.forgetting import JUDGES, hands, pixels
from tests.walt_train.loop.serve.loop import Loop, crop
from walt_train.loop.lineage import graph
from walt_train.loop.lineage.carry import carry_out, take_up
from walt_train.loop.lineage.choose import Choice
from walt_train.loop.lineage.forget import Wish, begin, pending
from walt_train.loop.lineage.tables import forgets


@pytest.mark.parametrize("stride", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_at_any_step_is_completed_by_the_next_one(prepared_twice: Path, tmp_path: Path, stride: int) -> None:
    wish = Wish(choice=Choice(crops=(crop(10).id, JUDGES)), withdraw=True, retrain=True)
    for number in range(1, 400, stride):
        folder = shutil.copytree(prepared_twice, tmp_path / str(number))
        with Loop(folder) as loop:
            with _failing_at(number) as left, suppress(_Killed):
                begun = begin(loop.store.engine, wish, "for a test")
                assert begun is not None
                carry_out(hands(loop), begun)
            if left[0] > 0:
                assert number > 1
                return
            take_up(hands(loop))
            begin(loop.store.engine, wish, "again")
            take_up(hands(loop))
            assert not {crop(10).id, JUDGES} & pixels(loop).keys()
            assert not list(loop.home.joinpath("generations/cam-1/1").rglob("*.png"))
            assert pending(loop.store.engine) == []
            assert [one.number for one in loop.generations] == [1, 2, 3]
            with loop.store.engine.connect() as connection:
                assert graph.taints(connection) == {("cam-1", 1): 1, ("cam-1", 2): 2}
                assert len(connection.execute(select(forgets)).all()) == 1
        shutil.rmtree(folder)
    raise AssertionError("more steps than expected")


class _Killed(BaseException):
    """Whoever raises it is dead."""


class _failing_at:  # noqa: N801 - a context manager
    """Raises at the n-th write to a disk or commit."""

    def __init__(self, number: int) -> None:
        self.left = [number]

    def __enter__(self) -> list[int]:
        def around(call: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*args: Any, **kwargs: Any) -> Any:
                self.left[0] -= 1
                if self.left[0] == 0:
                    raise _Killed
                return call(*args, **kwargs)

            return counted

        self._patches: list[Any] = [
            mock.patch("os.unlink", around(os.unlink)),
            mock.patch("os.replace", around(os.replace)),
            mock.patch("os.rename", around(os.rename)),
            mock.patch("os.fsync"),
            mock.patch.object(DefaultDialect, "do_commit", around(DefaultDialect.do_commit)),
        ]
        for one in self._patches:
            one.start()
        return self.left

    def __exit__(self, *_: object) -> None:
        for one in self._patches:
            one.stop()
