"""The configuration: four sources in order, and errors that say where, which key, what was found and expected."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from walt_edge.contract.errors import UsageError
from walt_edge.settings.flags import add_config_arguments, sources
from walt_edge.settings.sources import Loaded, Sources, known_keys
from walt_edge.settings.tree import AgentConfig, BrokerConfig, CameraConfig, WebConfig

PASSWORD = "correct-horse"
URL = f"rtsp://walt:{PASSWORD}@10.0.0.5/stream"


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("WALT_EDGE_")]:
        monkeypatch.delenv(name)


def load(*words: str) -> Loaded:
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    return sources(parser.parse_args(words)).load_traced()


def written(folder: Path, text: str) -> str:
    path = folder / "edge.yaml"
    path.write_text(text)
    return str(path)


def test_flags_go_before_environment_before_file_before_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, "web: {port: 1, host: '::1'}\nspool: {quota_mb: 1}\ntelemetry_s: 1\n")
    monkeypatch.setenv("WALT_EDGE_WEB__PORT", "2")
    monkeypatch.setenv("WALT_EDGE_SPOOL__QUOTA_MB", "2")
    loaded = load("--config", file, "--quota-mb", "3")
    config = loaded.config
    assert (config.spool.quota_mb, config.web.port, config.web.host, config.telemetry_s) == (3, 2, "::1", 1.0)
    assert config.drain_s == AgentConfig().drain_s
    told = [loaded.origin(key) for key in (("spool", "quota_mb"), ("web", "port"), ("web", "host"), ("drain_s",))]
    assert told == ["--quota-mb", "WALT_EDGE_WEB__PORT", f"{file}:1", "default"]


def test_nothing_said_is_the_defaults() -> None:
    assert load().config == AgentConfig()


def test_cameras_from_flags() -> None:
    one = load("--rtsp", URL, "--transport", "udp", "--wait-for-camera", "--camera", "north").config.cameras
    assert one == (CameraConfig(url=URL, name="north", transport="udp", wait_for_camera=True),)  # type: ignore[arg-type]
    held = load("--rtsp", URL, "--hwaccel", "vaapi", "--stall-s", "2.5").config.cameras
    assert held == (CameraConfig(url=URL, hwaccel="vaapi", stall_s=2.5),)  # type: ignore[arg-type]
    two = load("--rtsp", f"north={URL}", "--rtsp", f"south={URL}?a=b", "--fps", "5").config.cameras
    assert [(camera.name, camera.fps) for camera in two] == [("north", 5.0), ("south", 5.0)]
    assert two[1].url.get_secret_value() == f"{URL}?a=b"
    played = load("--input", "a=b/street.mp4").config.cameras[0]
    assert (played.url.get_secret_value(), played.is_live) == ("a=b/street.mp4", False)


def test_a_flag_for_cameras_reaches_those_of_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, f"cameras:\n- url: {URL}\n  name: a\n- url: {URL}\n  name: b\n")
    assert [camera.transport for camera in load("--config", file, "--transport", "udp").config.cameras] == ["udp"] * 2
    assert load("--config", file, "--set", "cameras.1.stall_s=7").config.cameras[1].stall_s == 7.0


def test_words_that_yaml_takes_for_something_else(tmp_path: Path) -> None:
    file = written(tmp_path, f"privacy:\n  faces: off\nweb:\ncameras:\n- {{url: '{URL}', hwaccel: off}}\n")
    config = load("--config", file).config
    assert (config.privacy.faces, config.cameras[0].hwaccel, config.web) == ("off", "off", WebConfig())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--quota-mb", "0"], "--quota-mb: spool.quota_mb: found '0', expected greater than or equal to 1"),
        (["--drain-s", "nan"], "--drain-s: drain_s: found 'nan', expected a finite number"),
        (["--drain-s", "x"], "--drain-s: drain_s: found 'x', expected a valid number"),
        (["--hwaccel", "/dev/x", "--rtsp", "y"], "--hwaccel: cameras.0.hwaccel: found '/dev/x', expected"),
        (["--stall-s", "0", "--rtsp", "y"], "--stall-s: cameras.0.stall_s: found '0', expected"),
        (["--transport", "x", "--rtsp", "y"], "--transport: cameras.0.transport: found 'x', expected 'tcp' or 'udp'"),
        (["--site", "a/b"], "--site: site: 'a/b' is not a name"),
        (["--broker", "x:y"], "--broker: broker.address: broker 'x:y' is not HOST:PORT"),
        (["--log-level", "loud"], "--log-level: log.level: found 'LOUD', expected 'DEBUG', 'INFO'"),
        (["--rtsp", URL, "--rtsp", URL], "--rtsp: cameras: several cameras need a name each"),
        (["--rtsp", ""], "--rtsp: cameras.0.url: expected a URL or a path"),
        (["--set", "web.prot=1"], "--set web.prot: no such key: did you mean web.port?"),
        (["--set", "qqqqq=1"], "no such key: walt-edge config shows all"),
        (["--set", "web"], "--set takes KEY=VALUE"),
        (["--set", "web.port=99999"], "--set: web.port: found 99999, expected less than or equal to 65535"),
        (["--set", "web.host=0.0.0.0"], "--set: web: host 0.0.0.0 is open to the network: give web.token"),
        (["--set", "web.tls_key=/k"], "--set: web: tls_key is given and no tls_cert: give both"),
        (["--set", "web.token=short"], "--set: web.token: shorter than 16 characters"),
        (["--set", "web.token=[1, 2]"], "--set: web.token: found something else, expected a valid string"),
        (["--set", "inference.cpu_budget=2"], "inference.cpu_budget: found 2, expected less than or equal to 1"),
        (["--config", "/absent.yaml"], "/absent.yaml: cannot be read: No such file"),
    ],
)
def test_wrong_flags(words: list[str], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(*words)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("home: /x\nweb:\n  port: many\n", ":3: web.port: found 'many', expected a valid integer"),
        ("web:\n  prot: 1\n", ":2: web.prot: no such key: did you mean web.port?"),
        ("wbe:\n  port: 1\n", ":1: wbe: no such key"),
        (f"cameras:\n- url: {URL}\n  nam: x\n", ":3: cameras.0.nam: no such key: did you mean cameras.*.name?"),
        ("cameras:\n- name: x\n", ":2: cameras.0.url: missing: give one"),
        (f"cameras: {URL}\n", ":1: cameras: found 'rtsp://walt:***@10.0.0.5/stream', expected a valid tuple"),
        (f"cameras:\n- {URL}\n", ":2: cameras.0: found 'rtsp://walt:***@10.0.0.5/stream', expected"),
        (f"cameras:\n- url: [{URL}]\n", ":2: cameras.0.url: found something else, expected a valid string"),
        ("home: /x\nhome: /y\n", ":2: home: given twice, keep one"),
        ("web: [\n", "not YAML"),
        (f"a: b: {PASSWORD}\n", ":1: not YAML: mapping values are not allowed here"),
        ("- 1\n", "expected keys and values"),
        ("\x00", "not YAML"),
        ("site: 2020-99-99\n", ": not YAML: "),
        ("site: &x [*x]\n", ":1: site: found "),
        ("&x cameras: [*x]\n", ":1: cameras.0: found 'cameras', expected"),
        ("? [1, 2]\n: 3\n", "a key that is no text"),
        ("1: 2\n", ":1: 1: a key that is no text, put it in quotes"),
        ("web: {on: 2}\n", ":1: web.on: a key that is no text"),
        ("web: !!python/object:os.system {}\n", ":1: not YAML: could not determine a constructor"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, told: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load("--config", file)
    assert told in str(caught.value)
    assert str(caught.value).startswith(file)
    assert "\n" not in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_cameras_may_share_what_they_have_in_common(tmp_path: Path) -> None:
    common = "cameras:\n- &common {url: a, name: a, transport: udp}\n- {<<: *common, name: b}\n"
    file = written(tmp_path, common)
    assert [(one.name, one.transport) for one in load("--config", file).config.cameras] == [
        ("a", "udp"),
        ("b", "udp"),
    ]


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(URL)
_KEYS = st.sampled_from(sorted({part for key in known_keys() for part in key.split(".")})) | st.text(max_size=4)
_TREES = st.recursive(
    _SCALARS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(_KEYS, below, max_size=4),
    max_leaves=12,
)


@given(tree=st.dictionaries(_KEYS, _TREES, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
def test_whatever_a_file_holds_it_is_taken_or_refused_in_one_line(tmp_path: Path, tree: dict[str, object]) -> None:
    file = written(tmp_path, json.dumps(tree, ensure_ascii=sum(map(len, tree)) % 2 == 0))
    told = ""
    try:
        told = repr(load("--config", file).config)
    except UsageError as error:
        told = str(error)
    assert told.startswith(("AgentConfig(", file))
    assert "\n" not in told
    assert PASSWORD not in told or told.startswith("AgentConfig(")  # a path may be called anything


@given(text=st.text(alphabet=st.sampled_from("ab:- {}[]&*!?|>'\"#%@\n\t,0x1~"), max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
def test_whatever_is_written_it_is_taken_or_refused(tmp_path: Path, text: str) -> None:
    file = written(tmp_path, text)
    with contextlib.suppress(UsageError):
        load("--config", file)


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("WALT_EDGE_WEB__PORT", "x", "WALT_EDGE_WEB__PORT: web.port: found 'x', expected a valid integer"),
        ("WALT_EDGE_WEB__PRT", "1", "WALT_EDGE_WEB__PRT: web.prt: no such key: did you mean web.port?"),
        ("WALT_EDGE_HOM", "1", "WALT_EDGE_HOM: hom: no such key: did you mean home?"),
        ("WALT_EDGE_CAMERAS", URL, "WALT_EDGE_CAMERAS: cameras: expected JSON"),
        ("WALT_EDGE_CAMERAS", '[{"url": "x", "fps": 0}]', "WALT_EDGE_CAMERAS: cameras.0.fps: found 0, expected"),
        ("WALT_EDGE_WEB__TOKEN", PASSWORD, "WALT_EDGE_WEB__TOKEN: web.token: shorter than 16 characters"),
    ],
)
def test_wrong_environment(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError) as caught:
        load()
    assert str(caught.value).startswith(told)
    assert PASSWORD not in str(caught.value)


def test_the_environment_may_say_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALT_EDGE_CAMERAS", f'[{{"name": "a", "url": "{URL}"}}]')
    monkeypatch.setenv("WALT_EDGE_WEB", '{"port": 5}')
    monkeypatch.setenv("WALT_EDGE_WEB__ENABLED", "false")
    monkeypatch.setenv("WALT_EDGE_SITE", "")
    config = load().config
    assert (config.cameras[0].name, config.web.port, config.web.enabled, config.site) == ("a", 5, False, None)


def test_secrets_are_never_shown() -> None:
    config = AgentConfig.model_validate(
        {
            "cameras": [{"url": URL}],
            "updates": {"url": f"https://walt:{PASSWORD}@home"},
            "web": {"token": f"{PASSWORD}-and-more"},
        }
    )
    for shown in (repr(config), str(config), str(config.dump()), config.model_dump_json(), str(config.model_dump())):
        assert PASSWORD not in shown
    assert config.cameras[0].url.get_secret_value() == URL
    assert config.web.secret() == f"{PASSWORD}-and-more"


def test_a_token_may_lie_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    web = WebConfig(host="0.0.0.0", token_file=file)
    with pytest.raises(UsageError, match="cannot be read"):
        web.secret()
    file.write_text("short\n")
    with pytest.raises(UsageError, match="fewer than 16"):
        web.secret()
    file.write_text("0123456789abcdef\n")
    assert web.secret() == "0123456789abcdef"


def test_a_brokers_endpoint(tmp_path: Path) -> None:
    assert BrokerConfig().endpoint().tls is None
    assert BrokerConfig(address="home", tls=True).endpoint().tls is not None
    with pytest.raises(UsageError, match="no such file"):
        BrokerConfig(ca=tmp_path / "absent.pem").endpoint()


def test_every_key_can_be_set_and_dumped() -> None:
    assert "cameras.*.url" in known_keys()
    assert "web.token_file" in known_keys()
    assert AgentConfig.model_validate(json.loads(json.dumps(AgentConfig().dump()))) == AgentConfig()


def test_a_reload_reads_the_file_anew(tmp_path: Path) -> None:
    file = Path(written(tmp_path, "telemetry_s: 1\n"))
    read = Sources((), file)
    assert read.load().telemetry_s == 1
    file.write_text("telemetry_s: 2\n")
    assert read.load().telemetry_s == 2


def test_help_needs_no_pydantic() -> None:
    code = (
        "import sys; from walt_edge.cli import SCRIPT; SCRIPT.main(['--help']); sys.exit('pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
