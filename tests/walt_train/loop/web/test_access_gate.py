"""Before every page: the host, the size, the rate, who asks and whose form it is; and what every answer says."""

from __future__ import annotations

import ipaddress
import re
from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi.routing import iter_route_contexts
from starlette.types import ASGIApp

from tests.walt_train.loop.web.client import PASSWORD, Answer, Client, Clock, signed_in, site_on
from walt_edge.contract.errors import UsageError
from walt_train.loop.store.store import Store
from walt_train.loop.web.access.gate import HEAD_BYTES_MAX
from walt_train.loop.web.access.person import Person, Role
from walt_train.loop.web.access.trail import Filter
from walt_train.loop.web.app import make_app
from walt_train.loop.web.routers import ROUTERS
from walt_train.loop.web.settings import WebSettings, is_loopback, parse_proxies
from walt_train.loop.web.site import Site

# What somebody may ask for who is not known.
PUBLIC = {("GET", "/sign-in"), ("POST", "/sign-in"), ("GET", "/setup"), ("POST", "/setup")}


def routes() -> set[tuple[str, str]]:
    """Every page of every part, with something for each place in its path."""
    found: set[tuple[str, str]] = set()
    for router in ROUTERS:
        for route in iter_route_contexts(router.routes):
            path = re.sub(r"\{[^}]*\}", "1", route.path or "")
            found |= {(method, path) for method in route.methods or ()}
    return found


@pytest.fixture
def site(store: Store, clock: Clock) -> Site:
    """One that takes as many requests as these tests make."""
    return site_on(store, clock=clock, settings=WebSettings(burst=10_000))


@pytest.fixture
def app(site: Site) -> ASGIApp:
    site.access.people.add("root", Role.ADMIN, PASSWORD)
    return make_app(site)


def behind(store: Store, clock: Clock, **options: Any) -> Site:
    """A site behind a proxy at 10.0.0.1."""
    proxies = parse_proxies(["10.0.0.1"])
    settings = WebSettings(host="0.0.0.0", names=("home.example",), proxies=proxies, **options)
    return site_on(store, clock=clock, settings=settings)


# Who may ask for what


def test_no_page_is_shown_to_whom_nobody_knows(app: ASGIApp) -> None:
    client = Client(app)
    assert routes() >= PUBLIC
    for method, path in sorted(routes() - PUBLIC):
        answer = client.ask(method, path)
        if method == "GET" and not path.startswith("/api/"):
            assert answer.status == 303, path
            assert answer.headers["location"].startswith("/sign-in?next="), path
        else:
            assert answer.status == 401, path
            assert answer.headers["www-authenticate"] == "Bearer"


def test_nothing_is_changed_without_the_session_s_own_form(site: Site, app: ASGIApp) -> None:
    client = signed_in(site, Role.ADMIN, app=app)
    changing = sorted(one for one in routes() - PUBLIC if one[0] != "GET")
    assert ("POST", "/people") in changing
    for method, path in changing:
        refuses(client, method, path)


def refuses(client: Client, method: str, path: str) -> None:
    form = {"content_type": "application/x-www-form-urlencoded"}
    for body, headers in (
        (b"", form),
        (b"csrf=", form),
        (b"csrf=" + b"0" * 64, form),
        (b'{"csrf": "x"}', {"content_type": "application/json"}),
        (b"", form | {"x_csrf_token": "0" * 64}),
        (b"", form | {"authorization": f"Basic {client.csrf}"}),
    ):
        answer = client.ask(method, path, body, headers)
        assert answer.status == 403, (path, body, headers)
    own = urlencode({"csrf": client.csrf}).encode()
    for stranger in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:81"},
        {"origin": "https://localhost"},
        {"origin": "http://localhost.evil.example"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ):
        assert client.ask(method, path, own, form | stranger).status == 403, (path, stranger)


def test_refusals_are_written_down(site: Site, app: ASGIApp) -> None:
    operator = signed_in(site, Role.OPERATOR, app=app)
    assert operator.post("/theme", {"csrf": "wrong"}).status == 403
    assert operator.get("/people").status == 403
    assert operator.post("/people", {"name": "eve", "role": "admin", "password": PASSWORD}).status == 403
    lines = site.access.trail.newest(Filter(outcome="refused"), 9)
    assert [(line.who, line.what, line.subject) for line in lines] == [
        ("some-operator", "access", "/people"),
        ("some-operator", "access", "/people"),
        ("some-operator", "csrf", "/theme"),
    ]
    assert lines[0].address == "127.0.0.1"
    assert [one.name for one in site.access.people.all()] == ["root", "some-operator"]


@pytest.mark.parametrize(
    ("role", "path", "status"),
    [
        (Role.VIEWER, "/account", 200),
        (Role.VIEWER, "/help", 200),
        (Role.VIEWER, "/people", 403),
        (Role.VIEWER, "/audit", 403),
        (Role.OPERATOR, "/people", 403),
        (Role.OPERATOR, "/audit", 403),
        (Role.OPERATOR, "/audit.csv", 403),
        (Role.ADMIN, "/people", 200),
        (Role.ADMIN, "/audit", 200),
        (Role.ADMIN, "/audit.csv", 200),
    ],
)
def test_roles_open_pages(site: Site, app: ASGIApp, role: Role, path: str, status: int) -> None:
    answer = signed_in(site, role, app=app).get(path)
    assert answer.status == status
    if status == 403:
        assert f"this needs the role admin, and you are {role.word}" in answer.text.lower()


def test_the_menu_holds_what_one_may_see(site: Site, app: ASGIApp) -> None:
    for role, has_people in ((Role.VIEWER, False), (Role.OPERATOR, False), (Role.ADMIN, True)):
        page = signed_in(site, role, app=app).get("/account").text
        assert ('href="/people"' in page) is has_people
        assert 'href="/fleet"' in page


# Tokens


def test_a_program_shows_a_token_and_needs_no_form(site: Site, app: ASGIApp) -> None:
    token = site.access.tokens.make(Person("root", Role.ADMIN), "x", "operate", 1)
    program = Client(app)
    bearer = {"authorization": f"Bearer {token}", "content_type": "application/x-www-form-urlencoded"}
    assert program.ask("POST", "/clipart/undo-act", urlencode({"at_us": 7}).encode(), bearer).status == 303
    (line,) = site.access.trail.newest(Filter(what="crop.undo"), 9)
    assert (line.who, line.token) == ("root", token.split("_")[1])


@pytest.mark.parametrize(("scope", "status"), [("read", 403), ("operate", 403), ("admin", 200)])
def test_a_token_opens_what_its_scope_says(site: Site, app: ASGIApp, scope: str, status: int) -> None:
    token = site.access.tokens.make(Person("root", Role.ADMIN), "x", scope, 1)
    assert Client(app).get("/people", authorization=f"Bearer {token}").status == status


def test_a_wrong_token_is_told_and_no_cookie_mends_it(site: Site, app: ASGIApp) -> None:
    client = signed_in(site, Role.ADMIN, app=app)
    for token in ("", "x", "walt_0000000000000000_x", "walt_" + "x" * 5000):
        answer = client.get("/api/v1/anything", authorization=f"Bearer {token}", accept="application/json")
        assert answer.status == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["title"] == "Unauthorized"
    assert client.get("/account", authorization="bearer wrong").status in (303, 401)
    (line,) = site.access.trail.newest(Filter(what="token"), 9)
    assert (line.outcome, line.who, line.subject) == ("refused", "", "/api/v1/anything"), "once a minute"


def test_what_is_one_s_own_takes_a_person_and_no_token(site: Site, app: ASGIApp) -> None:
    token = site.access.tokens.make(Person("root", Role.ADMIN), "x", "admin", 1)
    headers = {"authorization": f"Bearer {token}", "content_type": "application/x-www-form-urlencoded"}
    form = b"label=x&scope=admin&days=366&theme=dark"
    for path in ("/account/tokens", "/account/sessions/end", "/account/password", "/theme", "/sign-out"):
        assert Client(app).ask("POST", path, form, headers).status == 403
    assert len(site.access.tokens.of("root")) == 1


# What every answer says


def strict(answer: Answer) -> bool:
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    return answer.headers["cache-control"] == "no-store"


def test_every_answer_has_its_headers(site: Site, app: ASGIApp) -> None:
    client = signed_in(site, Role.ADMIN, app=app)
    for answer in (
        client.get("/account"),
        client.get("/nowhere"),
        client.post("/people", {"csrf": "wrong"}),
        client.get("/", host="evil.example"),
        Client(app).get("/account"),
    ):
        assert strict(answer)
    style = re.search(r'href="(/static/style\.css\?v=[0-9a-f]+)"', client.get("/account").text)
    assert style
    kept = client.get(style.group(1))
    assert not strict(kept)
    assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert kept.headers["content-type"].startswith("text/css")
    assert client.get("/static/style.css?v=old").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "path", ["/static/..%2Fapp.py", "/static/../app.py", "/static/", "/static/app.py", "/static/%00"]
)
def test_no_other_file_is_served(app: ASGIApp, path: str) -> None:
    assert Client(app).get(path).status in (400, 404)


def test_no_page_holds_a_script_or_a_style_of_its_own(site: Site, app: ASGIApp) -> None:
    client = signed_in(site, Role.ADMIN, app=app)
    client.post("/account/tokens", {"label": "x", "scope": "read", "days": 1})
    for path in ("/account", "/people", "/audit", "/help", "/nowhere"):
        page = client.get(path).text
        assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|javascript:", page)
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', page)


# Host, size, rate


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8080", 200),
        ("127.0.0.1:8080", 200),
        ("127.3.2.1", 200),
        ("[::1]:8080", 200),
        ("LOCALHOST.", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("192.168.1.4", 421),
        ("", 421),
        ("[::1", 421),
        ("a b", 421),
        ("localhost@evil.example", 421),
    ],
)
def test_only_our_names_are_answered(app: ASGIApp, host: str, status: int) -> None:
    assert Client(app).get("/sign-in", host=host).status == status


def test_a_name_that_was_given_is_answered(store: Store, clock: Clock) -> None:
    app = make_app(site_on(store, clock=clock, settings=WebSettings(names=("home.example",))))
    assert Client(app, host="Home.Example:8443").get("/setup").status == 200
    assert Client(app, host="other.example").get("/setup").status == 421


def test_sizes_are_bounded(site: Site, app: ASGIApp) -> None:
    client = signed_in(site, Role.ADMIN, app=app)
    assert client.get("/account", x_long="x" * HEAD_BYTES_MAX).status == 431
    assert client.get("/" + "x" * HEAD_BYTES_MAX).status == 431
    big = b"csrf=" + b"x" * site.settings.body_max_bytes
    form = {"content_type": "application/x-www-form-urlencoded"}
    assert client.ask("POST", "/people", big, form).status == 413
    assert client.ask("POST", "/people", big, form | {"content_length": "5"}).status == 413, "whatever it declares"
    assert client.ask("POST", "/people", b"", form | {"content_length": "-5"}).status == 413
    assert client.ask("POST", "/people", b"", form | {"content_length": "9" * 30}).status == 413


def test_who_asks_too_much_waits(store: Store, clock: Clock) -> None:
    site = site_on(store, clock=clock, settings=WebSettings(rate_per_s=0.001, burst=5))
    app = make_app(site)
    greedy, other = Client(app, address="127.0.0.2"), Client(app, address="127.0.0.3")
    assert [greedy.get("/setup").status for _ in range(5)] == [200] * 5
    answer = greedy.get("/setup")
    assert answer.status == 429
    assert int(answer.headers["retry-after"]) > 900
    assert "Wait a moment, then reload the page." in answer.text
    assert other.get("/setup").status == 200


@pytest.mark.parametrize("path", ["/people/\0/role", "/audit?who=%00", "/nowhere\0"])
def test_zero_bytes_are_refused(site: Site, app: ASGIApp, path: str) -> None:
    client = signed_in(site, Role.ADMIN, app=app)
    assert client.get(path).status == 400
    assert client.post("/people", {"name": "a\0b", "password": PASSWORD}).status == 400


# Proxies


def test_only_a_proxy_of_ours_says_who_asks(store: Store, clock: Clock) -> None:
    site = behind(store, clock)
    site.access.people.add("root", Role.ADMIN, PASSWORD)
    app = make_app(site)
    proxy = Client(app, host="home.example", address="10.0.0.1")

    def sign_in(client: Client, **headers: str) -> Answer:
        origin = {"origin": "https://home.example"}
        return client.post("/sign-in", {"name": "root", "password": PASSWORD}, **(origin | headers))

    told = {"x_forwarded_for": "6.6.6.6, 203.0.113.5", "x_forwarded_proto": "https"}
    answer = sign_in(proxy, **told)
    assert answer.status == 303
    assert set(answer.cookies) == {"__Host-walt_home", "__Host-walt_browser"}
    assert "Secure" in answer.headers["set-cookie"]
    assert "strict-transport-security" in answer.headers
    (line,) = site.access.trail.newest(Filter(what="sign-in"), 9)
    assert line.address == "203.0.113.5", "what stands left of it anybody may have written"
    plain = sign_in(Client(app, host="home.example", address="10.0.0.1"), x_forwarded_for="203.0.113.5")
    assert plain.status == 403, "a proxy that speaks plain HTTP to the world"
    stranger = sign_in(Client(app, host="home.example", address="10.0.0.2"), **told)
    assert stranger.status == 403, "nobody goes past the proxy"


def test_without_a_proxy_nobody_is_believed(site: Site, app: ASGIApp) -> None:
    client = Client(app, address="127.0.0.9")
    form = {"name": "root", "password": "wrong"}
    client.post("/sign-in", form, x_forwarded_for="203.0.113.5", x_forwarded_proto="https", origin="http://localhost")
    (line,) = site.access.trail.newest(Filter(what="sign-in"), 9)
    assert line.address == "127.0.0.9"


def test_a_chain_of_proxies_is_followed_as_far_as_it_is_ours(store: Store, clock: Clock) -> None:
    proxies = parse_proxies(["10.0.0.0/24", "2001:db8::/64"])
    site = site_on(store, clock=clock, settings=WebSettings(names=("home.example",), proxies=proxies))
    site.access.people.add("root", Role.ADMIN, PASSWORD)
    client = Client(make_app(site), host="home.example", address="::ffff:10.0.0.9")
    hops = "evil, 203.0.113.5, 2001:db8::7,10.0.0.3"
    client.post(
        "/sign-in",
        {"name": "root", "password": "x"},
        origin="https://home.example",
        x_forwarded_for=hops,
        x_forwarded_proto="HTTPS",
    )
    (line,) = site.access.trail.newest(Filter(), 9)
    assert line.address == "203.0.113.5"


# Where it is served


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "home.example", "::"])
def test_an_open_and_unencrypted_page_is_refused_with_the_remedies(host: str) -> None:
    with pytest.raises(UsageError, match=r"--tls-cert.*--behind-proxy.*SSH tunnel"):
        WebSettings(host=host)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="--behind-proxy needs --name"):
        WebSettings(proxies=parse_proxies([]))
    with pytest.raises(UsageError, match=r"--behind-proxy nonsense: .*as 10\.0\.0\.0/24"):
        parse_proxies(["nonsense"])
    assert parse_proxies([])[0] == ipaddress.ip_network("127.0.0.0/8")
    assert [is_loopback(host) for host in ("localhost", "::1", "[::1]", "127.9.9.9", "::ffff:127.0.0.1")] == [
        True
    ] * 5
    assert [is_loopback(host) for host in ("", "127.0.0.1.x", "localhos", "10.0.0.1", "::2")] == [False] * 5
