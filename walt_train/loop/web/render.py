"""Templates to answers: who looks, what was just said, and where the reader is come with every page."""

from __future__ import annotations

import functools
import hashlib
import json
import mimetypes
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from importlib.resources import files
from typing import Final

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup

from walt_train.loop.web.access.asker import asker_of
from walt_train.loop.web.access.cookies import SAID, THEME, THEMES, cookie, set_cookie
from walt_train.loop.web.access.person import Person, Role
from walt_train.loop.web.access.secret import derived, is_same
from walt_train.loop.web.site import site_of

NAV: Final = (
    ("Fleet", "/fleet", Role.VIEWER),
    ("Rollouts", "/rollouts", Role.VIEWER),
    ("Runs", "/runs", Role.VIEWER),
    ("Clip art", "/clipart", Role.VIEWER),
    ("Label", "/label", Role.OPERATOR),
    ("Audit", "/audit", Role.ADMIN),
    ("People", "/people", Role.ADMIN),
)
_STEPS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
# The first that fits: most claim to be those that come after them.
_BROWSERS: Final = (("Edg", "Edge"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS: Final = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS", "macOS"),
    ("Linux", "Linux"),
)
_SAID_MAX: Final = 400


def render(request: Request, template: str, status: int = 200, **values: object) -> HTMLResponse:
    """A page.

    Args:
        request: That it answers.
        template: Its file's name in `templates/`.
        status: HTTP status.
        values: What the template names, beside what every page knows: `person`, `csrf` (a form's hidden field),
            `csrf_token`, `nav`, `said`, `path`, `theme`, `now_us` and `static(name)`.
    """
    asker = asker_of(request)
    said = _said(request)
    token = derived(asker.secret, "csrf") if asker.secret else ""
    shared: dict[str, object] = {
        "person": asker.person,
        "csrf_token": token,
        "csrf": Markup('<input type="hidden" name="csrf" value="{}">').format(token),
        "nav": _nav(asker.person, request.url.path),
        "said": said,
        "path": request.url.path,
        "theme": _theme(request),
        "now_us": site_of(request).clock(),
    }
    page = environment().get_template(template).render(shared | values)
    response = HTMLResponse(page, status)
    if said is not None:
        set_cookie(request, response, SAID, "")
    return response


def see_other(request: Request, path: str, said: str = "", *, is_bad: bool = False) -> Response:
    """Sends the browser to a page of ours after a form, where it is told `said`."""
    response = RedirectResponse(path, 303)
    asker = asker_of(request)
    if said and asker.secret:
        text = json.dumps([said[:_SAID_MAX], is_bad])
        packed = urlsafe_b64encode(text.encode()).decode()
        set_cookie(request, response, SAID, f"{packed}.{derived(asker.secret, f'said {packed}')}")
    return response


def _said(request: Request) -> dict[str, object] | None:
    """What the page before wanted to be said, if it was us who wrote it."""
    packed, _, seal = cookie(request, SAID).partition(".")
    secret = asker_of(request).secret
    if not packed or not secret or not is_same(seal, derived(secret, f"said {packed}")):
        return None
    text, is_bad = json.loads(urlsafe_b64decode(packed))
    return {"text": text, "is_bad": is_bad}


def _theme(request: Request) -> str:
    """`light`, `dark`, or "" for what the browser prefers."""
    found = cookie(request, THEME)
    return found if found in THEMES else ""


def _nav(person: Person | None, path: str) -> list[dict[str, object]]:
    return [
        {"name": name, "href": href, "is_here": path == href or path.startswith(f"{href}/")}
        for name, href, role in NAV
        if person is not None and person.role >= role
    ]


@functools.cache
def environment() -> jinja2.Environment:
    """The templates; what they do not find is an error, and what they show is escaped."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("walt_train.loop.web"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # An upgrade beneath a running server must not mix its code with newer templates.
        auto_reload=False,
    )
    made.filters |= {"ago": _ago, "utc": utc, "count": count, "bytes": size, "browser": browser}
    made.globals["static"] = static_url
    return made


# -- what is shown of numbers -----------------------------------------------------------------------------------


@jinja2.pass_context
def _ago(context: jinja2.runtime.Context, at_us: int | None) -> str:
    return ago(at_us, context["now_us"])


def ago(at_us: int | None, now_us: int) -> str:
    """How long before now, as `3 min ago`; None is `never`."""
    if at_us is None:
        return "never"
    seconds = (now_us - at_us) // 1_000_000
    if abs(seconds) < 1:
        return "now"
    length, unit = next(step for step in _STEPS if abs(seconds) >= step[0])
    amount = f"{count(abs(seconds) // length)} {unit}"
    return f"{amount} ago" if seconds > 0 else f"in {amount}"


def utc(at_us: int | None) -> str:
    """Date and time, as `2026-11-23 06:00:00 UTC`; None is a dash."""
    if at_us is None:
        return "–"
    try:
        return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{at_us} µs"


def count(number: float | None) -> str:
    """A number with its thousands apart, as `1 234`; None is a dash."""
    if number is None:
        return "–"
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def size(number: float | None) -> str:
    """Bytes, as `1.2 MB`; None is a dash."""
    if number is None:
        return "–"
    left = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(left) < 1000:
            return f"{left:.0f} B" if unit == "B" else f"{left:.1f} {unit}"
        left /= 1000
    return f"{left:.1f} TB"


def browser(agent: str) -> str:
    """What a browser's name for itself means to people, as `Firefox on Linux`."""
    named = next((name for part, name in _BROWSERS if part in agent), "")
    system = next((name for part, name in _SYSTEMS if part in agent), "")
    return f"{named} on {system}" if named and system else named or agent[:40] or "unknown"


# -- the page's own files ---------------------------------------------------------------------------------------


@functools.cache
def static_files() -> dict[str, tuple[bytes, str, str]]:
    """The files that pages use, by name: bytes, media type, and a hash that tells versions apart.

    Read once: what is not among them cannot be asked for, whatever the path says.
    """
    found = {}
    for one in (files("walt_train.loop.web") / "static").iterdir():
        media = mimetypes.guess_type(one.name)[0]
        if one.is_file() and media is not None:
            data = one.read_bytes()
            found[one.name] = (data, media, hashlib.sha256(data).hexdigest()[:12])
    return found


def static_url(name: str) -> str:
    """Where a file of the page's is; it changes with the file, so that browsers may keep it."""
    return f"/static/{name}?v={static_files()[name][2]}"
