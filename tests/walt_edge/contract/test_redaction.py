"""Credentials are taken out of whatever somebody may read; what is no credential stays."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.material import ROOT
from tests.waiting import wait_for
from walt_edge.agent import logs
from walt_edge.contract.redaction import RedactingFormatter, Redactor, redact, secrets_of
from walt_edge.settings.tree import AgentConfig

PASSWORD = "correct-horse"
URL = f"rtsp://walt:{PASSWORD}@10.0.0.5/stream"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"cannot open {URL}: refused", "cannot open rtsp://walt:***@10.0.0.5/stream: refused"),
        ("rtsp://walt:pa/ss@h/x and more", "rtsp://walt:***@h/x and more"),
        ("rtsp://walt:pa@ss@h/x", "rtsp://walt:***@h/x"),
        ("rtsp://:pw@h", "rtsp://:***@h"),
        ("https://token-alone@home/x", "https://***@home/x"),
        ("rtsp://h/x?user=a&password=abc&n=1", "rtsp://h/x?user=a&password=***&n=1"),
        ("http://h/x?access_token=abc", "http://h/x?access_token=***"),
        ("Authorization: Bearer abcdefgh12", "Authorization: Bearer ***"),
        ("authorization=Basic d2FsdDpwdw==", "authorization=Basic ***"),
        ('{"token": "abc", "n": 1}', '{"token": "***", "n": 1}'),
        ("{'password': 'abc'}", "{'password': '***'}"),
        ("WALT_EDGE_WEB__TOKEN=abc", "WALT_EDGE_WEB__TOKEN=***"),
        (f"('{URL}', 3)", "('rtsp://walt:***@10.0.0.5/stream', 3)"),
    ],
)
def test_what_looks_like_a_credential_goes(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(redact(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "watching rtsp://10.0.0.5:554/stream as home/walt-1/cam-1",
        "WALT_EDGE_WEB__TOKEN: web: the token is shorter than 16 characters",
        "the tokens of 3 cameras; passed over: frame 7",
        "user@example.org wrote to a@b",
        "http://h/x?monkey=1&author=me",
        "signature is not valid: check the keys",
        "sha256 008fec62652a6544",
    ],
)
def test_what_is_none_stays(text: str) -> None:
    assert redact(text) == text


@given(
    password=st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zs", "Zl", "Zp"), blacklist_characters="\"'<>"))
    .map(lambda text: f"Zq{text}qZ")
    .filter(lambda text: not any(map(str.isspace, text)))
)
def test_no_password_of_a_url_is_left(password: str) -> None:
    url = f"rtsp://walt:{password}@camera/stream"
    assert password not in redact(f"tried {url} twice")
    assert password not in Redactor(secrets_of(url))(f"tried {password} as it is")


def test_secrets_in_every_spelling() -> None:
    hide = Redactor(secrets_of("rtsp://walt:p%40ss%2Fword@h/x", "token-of-the-page", None))
    for text in ("p%40ss%2Fword", "p@ss/word", "token-of-the-page"):
        assert hide(f"a {text} b") == "a *** b"
    assert secrets_of("rtsp://h/x", "", "rtsp://walt:abc@h") == ()  # too short to be looked for everywhere


@pytest.fixture
def _logging() -> Iterator[None]:
    """Puts the process's log and hooks back."""
    root = logging.getLogger()
    before = root.level, list(root.handlers), [handler.formatter for handler in root.handlers]
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    logging.captureWarnings(capture=False)
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    for handler, formatter in zip(before[1], before[2], strict=True):
        handler.setFormatter(formatter)


def record(message: str, *args: object, error: BaseException | None = None, **fields: object) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord("walt_edge.x", logging.WARNING, "x.py", 1, message, args, info)
    vars(made).update(fields)
    return made


def raised(text: str) -> Exception:
    try:
        try:
            raise ValueError(text)
        except ValueError as cause:
            raise RuntimeError(f"again {text}") from cause
    except RuntimeError as error:
        return error


def test_text_lines() -> None:
    formatter = RedactingFormatter("%(levelname)s %(message)s", Redactor(secrets_of(URL)))
    told = formatter.format(record("no %s, %r", URL, {"url": URL}, error=raised(f"by {PASSWORD} in {URL}")))
    assert PASSWORD not in told
    assert told.startswith("WARNING no rtsp://walt:***@10.0.0.5/stream, {'url': 'rtsp://walt:***@")
    assert "RuntimeError: again by *** in" in told


def test_json_lines() -> None:
    formatter = logs.JsonFormatter(Redactor(secrets_of(URL)))
    told = formatter.format(record("no %s", URL, error=raised(PASSWORD), camera="north", url=URL, depth=3, ratio=0.5))
    assert PASSWORD not in told
    assert "\n" not in told
    line = json.loads(told)
    assert (line["level"], line["logger"]) == ("WARNING", "walt_edge.x")
    assert line["message"] == "no rtsp://walt:***@10.0.0.5/stream"
    assert line["fields"] == {
        "camera": "north",
        "url": "rtsp://walt:***@10.0.0.5/stream",
        "depth": 3,
        "ratio": 0.5,
    }
    assert "Traceback" in line["exception"]
    assert line["time"].endswith("Z")
    assert set(json.loads(formatter.format(record("plain")))) == {"time", "level", "logger", "thread", "message"}


@pytest.mark.usefixtures("_logging")
def test_a_password_with_quotes_is_no_way_around() -> None:
    config = AgentConfig.model_validate({"web": {"token": 'quote"and\\slash-123'}, "log": {"format": "json"}})
    formatter = logs.JsonFormatter(logs.configure(config))
    assert json.loads(formatter.format(record('it is quote"and\\slash-123')))["message"] == "it is ***"


@pytest.mark.usefixtures("_logging")
def test_a_log_may_be_configured_again() -> None:
    root = logging.getLogger()
    handlers = len(root.handlers)
    logs.configure(AgentConfig.model_validate({"log": {"level": "debug"}}))
    assert root.level == logging.DEBUG
    logs.configure(AgentConfig.model_validate({"log": {"level": "ERROR", "format": "json"}}))
    assert root.level == logging.ERROR
    assert len(root.handlers) == max(1, handlers)
    assert any(isinstance(handler.formatter, logs.JsonFormatter) for handler in root.handlers)


UNCAUGHT = f"""
import logging, sys, threading, warnings
from walt_edge.agent.logs import configure
from walt_edge.settings.tree import AgentConfig
configure(AgentConfig.model_validate({{"cameras": [{{"url": "{URL}"}}], "log": {{"format": sys.argv[1]}}}}))
def fail():
    raise RuntimeError("tried {URL} by {PASSWORD}")
class Broken:
    def __del__(self):
        fail()
thread = threading.Thread(target=fail)
thread.start()
thread.join()
Broken()
warnings.warn("old {URL}")
fail()
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_nobody_caught_is_told_without_it(form: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", UNCAUGHT, form], capture_output=True, text=True, cwd=ROOT, check=False, timeout=60
    )
    assert ended.returncode == 1
    assert PASSWORD not in ended.stdout + ended.stderr
    assert ended.stderr.count("rtsp://walt:***@10.0.0.5/stream") >= 4
    if form == "json":
        lines = [json.loads(line) for line in ended.stderr.splitlines()]
        assert [line["level"] for line in lines] == ["CRITICAL", "ERROR", "WARNING", "CRITICAL"]


def cmdline(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode().split("\0")


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs Linux's /proc")
def test_what_may_be_a_password_is_covered_before_anything_else_is_imported() -> None:
    """What stands between the start and then is time in which everybody reads it."""
    code = (
        "import sys\nclass Late:\n def find_spec(self, name, path=None, target=None):\n"
        "  if name in ('argparse', 'logging', 'walt_edge.contract.redaction', 'walt_edge.script'):\n"
        "   print(name, open('/proc/self/cmdline').read().rstrip(chr(0)).split(chr(0))[3:], flush=True)\n"
        "sys.meta_path.insert(0, Late())\nfrom walt_edge.cli import main\nmain()"
    )
    command = [sys.executable, "-c", code, "--rtsp", URL]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=60).stdout
    covered, shown = ["--rtsp", "*" * len(URL)], ["--rtsp", "rtsp://walt:***@10.0.0.5/stream"]
    lines = [line.partition(" ") for line in told.splitlines() if " [" in line]
    assert [name for name, _, _ in lines] == [
        "walt_edge.contract.redaction",
        "logging",
        "walt_edge.script",
        "argparse",
    ]
    assert [words for _, _, words in lines] == [str(covered), str(covered), str(shown), str(shown)]


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--rtsp", URL, "--fps", "5"], ["--rtsp", "rtsp://walt:***@10.0.0.5/stream", "--fps", "5"]),
        (["--set", "web.token=abcdef", "ünï"], ["--set", "web.token=***", "ünï"]),
        (["--home", "/x"], ["--home", "/x"]),
        ([URL], ["rtsp://walt:***@10.0.0.5/stream"]),
        (["http://10.0.0.5/x?sig=abcdef"], ["http://10.0.0.5/x?sig=***"]),
    ],
)
def test_others_see_no_password_in_the_list_of_processes(words: list[str], shown: list[str]) -> None:
    code = (
        "import sys; from walt_edge.agent.hidden_argv import hide_passwords; given = sys.argv[1:]\n"
        "print(hide_passwords(), flush=True); sys.stdin.read(); print(given == sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "True\n"
        wait_for(lambda: cmdline(process.pid)[3:] == shown, what=str(cmdline(process.pid)))
        # What stands behind the arguments is not touched.
        assert b"PATH=" in Path(f"/proc/{process.pid}/environ").read_bytes()
        process.stdin.close()
        assert process.stdout.read() == f"{words == shown}\n"
