"""A changed configuration: hot keys take effect, cold ones are named, broken files change nothing."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import wait_for
from walt_edge.settings import reload
from walt_edge.settings.reload import HOT, Reloader, changes, taken_over
from walt_edge.settings.sources import Sources, known_keys
from walt_edge.settings.tree import AgentConfig


def config(**sections: Any) -> AgentConfig:
    return AgentConfig.model_validate(sections)


CAMERA = {"url": "rtsp://walt:first@h/x"}


@pytest.mark.parametrize(
    ("old", "new", "hot", "cold"),
    [
        ({}, {}, (), ()),
        ({}, {"log": {"level": "DEBUG"}}, ("log.level",), ()),
        ({}, {"selection": {"day_mb": 1}, "frames": {"day_mb": 1}}, ("selection.day_mb", "frames.day_mb"), ()),
        (
            {},
            {"selection": {"views_per_track": 2}, "frames": {"holdout_share": 0.5}},
            (),
            ("selection.views_per_track", "frames.holdout_share"),
        ),
        ({}, {"inference": {"max_fps": 2, "threads": 2}}, ("inference.max_fps",), ("inference.threads",)),
        ({}, {"web": {"token": "x" * 16, "port": 1}}, ("web.token",), ("web.port",)),
        ({"web": {"token": "x" * 16}}, {"web": {"token": "y" * 16}}, ("web.token",), ()),
        ({}, {"privacy": {"style": "blur"}}, (), ("privacy.style",)),
        ({"cameras": [CAMERA]}, {"cameras": [{"url": "rtsp://walt:other@h/x"}]}, (), ("cameras.0.url",)),
        ({}, {"updates": {"url": "https://x"}, "broker": {"tls": True}}, (), ("broker.tls", "updates.url")),
    ],
)
def test_what_needs_a_restart(old: dict[str, Any], new: dict[str, Any], hot: object, cold: object) -> None:
    found = changes(config(**old), config(**new))
    assert (found.hot, found.cold) == (hot, cold)
    after = taken_over(config(**old), config(**new))
    assert changes(after, config(**new)).hot == ()
    assert changes(config(**old), after).cold == ()


def test_a_camera_more_is_cold() -> None:
    one, two = {"url": "a", "name": "a"}, {"url": "b", "name": "b"}
    found = changes(config(cameras=[one]), config(cameras=[one, two]))
    assert found.hot == ()
    assert set(found.cold) >= {"cameras.1.url", "cameras.1.name"}


def test_what_is_hot_exists_and_is_no_matter_of_trust() -> None:
    keys = known_keys()
    assert all(any(key == hot or key.startswith(f"{hot}.") for key in keys) for hot in HOT)
    assert not any(hot.split(".")[0] in ("privacy", "cameras", "broker", "updates", "spool") for hot in HOT)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "edge.yaml"
    path.write_text("log: {level: INFO}\n")
    return path


def test_a_reload_is_asked_for(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sources = Sources((), file)
    reloader = Reloader(sources, sources.load())
    file.write_text("log: {level: DEBUG}\nhome: /elsewhere\n")
    assert reloader.poll() is None
    reloader.request()
    found = reloader.poll()
    assert found is not None
    assert (found.config.log.level, found.config.home) == ("DEBUG", AgentConfig().home)
    assert found.changes.touches("log")
    assert "needs a restart: home" in caplog.text
    assert reloader.poll() is None
    reloader.request()
    assert reloader.poll() is None


@pytest.mark.parametrize("text", ["log: {level: LOUD}\n", "log: [\n", "web: {token_file: /absent}\n", None])
def test_a_broken_file_changes_nothing(file: Path, caplog: pytest.LogCaptureFixture, text: str | None) -> None:
    sources = Sources((), file)
    before = sources.load()
    reloader = Reloader(sources, before)
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    reloader.request()
    assert reloader.poll() is None
    assert reloader.config is before
    assert "the configuration stays as it was" in caplog.text
    file.write_text("log: {level: DEBUG}\n")
    reloader.request()
    assert reloader.poll() is not None


def test_a_changed_file_asks_where_it_is_watched(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "_LOOK_S", 0.01)
    sources = Sources((), file)
    reloader = Reloader(sources, sources.load(), watch=True)
    other = file.with_suffix(".new")
    other.write_text("telemetry_s: 3\n")
    other.rename(file)
    wait_for(lambda: reloader.poll() is not None)
    assert reloader.config.telemetry_s == 3


def test_a_token_is_exchanged_in_its_file(tmp_path: Path, file: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a" * 16)
    file.write_text(f"web: {{token_file: {token}}}\n")
    sources = Sources((), file)
    reloader = Reloader(sources, sources.load())
    token.write_text("b" * 16)
    reloader.request()
    found = reloader.poll()
    assert found is not None
    assert found.changes.hot == ("web.token_file",)
    assert found.config.web.secret() == "b" * 16
