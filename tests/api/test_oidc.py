"""Logging in by an OpenID provider: a real one, a real server, a browser's cookies."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from api.site import Site, site
from cador.api.auth import without_token
from cador.integrations import openid
from cador.integrations.addresses import Rules
from cador.integrations.openid import OpenIdProvider, OpenIdSettings
from cador.integrations.outgoing import HttpOutgoing
from cador.operations.oidc import Admission, Identities, challenge_of
from support.openid_provider import (
    ANN,
    CLIENT,
    SECRET,
    Provider,
    by_somebody_else,
    openid_provider,
    unsigned,
    with_the_public_key,
)

LOGIN, CALLBACK, TOKEN = (f"/api/v1/auth/oidc/{name}" for name in ("login", "callback", "token"))
pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def shared() -> Iterator[Provider]:
    with openid_provider() as made:
        yield made


@pytest.fixture
def provider(shared: Provider) -> Provider:
    fresh = Provider()
    for name in ("person", "extra", "twist", "sign", "document", "secret", "grants", "access", "down", "generous"):
        setattr(shared, name, getattr(fresh, name))
    shared.asked.clear()
    return shared


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory, shared: Provider) -> AsyncIterator[Site]:
    outgoing = HttpOutgoing(Rules())
    settings = OpenIdSettings(issuer=shared.issuer, client_id=CLIENT, client_secret=SECRET)
    identities = Identities(OpenIdProvider(settings, outgoing), Admission())
    async with site(tmp_path_factory.mktemp("site"), identities=identities) as made:
        yield made
    await outgoing.aclose()


class Browser:
    """Goes to the provider and comes back, with the cookies it was given."""

    def __init__(self, server: Site) -> None:
        self.server = server
        self.cookies: dict[str, str] = {}

    async def begin(self, **query: str) -> httpx2.Response:
        reply = await self.server.get(LOGIN, None, params=query)
        for header in reply.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(header).items():
                self.cookies[name] = morsel.value
        return reply

    async def sign_in(self, url: str) -> dict[str, str]:
        """At the provider; what it sends back."""
        async with httpx2.AsyncClient(trust_env=False) as client:
            reply = await client.get(url)
        assert reply.status_code == 302, reply.text
        return {name: values[0] for name, values in parse_qs(urlsplit(reply.headers["location"]).query).items()}

    async def come_back(self, query: dict[str, str]) -> httpx2.Response:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return await self.server.get(CALLBACK, None, params=query, headers={"Cookie": cookies})

    async def log_in(self, **query: str) -> httpx2.Response:
        begun = await self.begin(**query)
        assert begun.status_code == 302, begun.text
        return await self.come_back(await self.sign_in(begun.headers["location"]))


def admit(server: Site, **rules: Any) -> None:
    """Other rules for who may come in."""
    identities = server.world.identities
    admission = Admission(**rules)
    object.__setattr__(identities, "admission", admission)


@pytest.fixture(autouse=True)
def _rules(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "server" in request.fixturenames:
        admit(request.getfixturevalue("server"))


async def test_somebody_logs_in_and_is_the_same_the_next_time(server: Site, provider: Provider) -> None:
    browser = Browser(server)
    begun = await browser.begin()
    url = urlsplit(begun.headers["location"])
    asked = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert f"{url.scheme}://{url.netloc}" == provider.issuer
    assert asked["tenant"] == "main"
    assert asked["redirect_uri"] == f"http://ci.example.com{CALLBACK}"
    assert asked["scope"] == "openid profile email"
    cookie = begun.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert f"Path={LOGIN.removesuffix('/login')}" in cookie
    assert asked["state"] not in cookie
    assert begun.headers["cache-control"] == "no-store"
    first = await browser.come_back(await browser.sign_in(begun.headers["location"]))
    assert first.status_code == 200, first.text
    assert first.headers["cache-control"] == "no-store"
    assert first.json()["user"]["account"] == "ann.corp"
    me = (await server.get("/api/v1/me", first.json()["token"])).json()
    assert (me["account"], me["name"], me["email"], me["admin"]) == ("ann.corp", "Ann 安", "ann@corp.example", False)
    provider.person = {**ANN, "preferred_username": "ann.married"}
    second = await Browser(server).log_in()
    assert second.json()["user"] == first.json()["user"]
    found = (await server.get("/openapi/users", params={"account": "ann.corp"})).json()
    assert found["users"][0]["identity_type"] == "oidc"


async def test_two_logins_of_one_browser_do_not_get_into_each_others_way(server: Site, provider: Provider) -> None:
    browser = Browser(server)
    one, two = await browser.begin(), await browser.begin()
    assert len(browser.cookies) == 2
    for begun in (two, one):
        reply = await browser.come_back(await browser.sign_in(begun.headers["location"]))
        assert reply.status_code == 200, reply.text


@pytest.mark.parametrize("lost", ["cookie", "state", "other", "twice"])
async def test_only_the_browser_that_began_comes_in(lost: str, server: Site, provider: Provider) -> None:
    """Somebody who is made to follow a stranger's link back is not logged in as that stranger."""
    browser = Browser(server)
    begun = await browser.begin()
    back = await browser.sign_in(begun.headers["location"])
    if lost == "cookie":
        browser.cookies.clear()
    elif lost == "state":
        back["state"] = "x" * 43
    elif lost == "other":
        other = Browser(server)
        await other.begin()
        browser.cookies = dict.fromkeys(browser.cookies, next(iter(other.cookies.values())))
    else:
        assert (await browser.come_back(back)).status_code == 200
    reply = await browser.come_back(back)
    assert reply.status_code == 401
    assert reply.headers["content-type"].startswith("application/problem+json")
    assert "/token" not in provider.asked or lost == "twice"


async def test_a_login_may_not_take_for_ever(server: Site, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser(server)
    begun = await browser.begin()
    back = await browser.sign_in(begun.headers["location"])
    now = server.world.clock
    server.world.ctx.clock.now = lambda: now() + 601
    try:
        reply = await browser.come_back(back)
    finally:
        server.world.ctx.clock.now = now
    assert (reply.status_code, reply.json()["detail"]) == (
        401, "this browser has begun no such login, or too long ago: begin again"
    )  # fmt: skip


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "http://other.example"}, {"aud": "somebody-else"}, {"aud": ["cador", "other"]},
        {"aud": ["cador", "other"], "azp": "other"}, {"nonce": "of another login"}, {"nonce": None},
        {"exp": 1}, {"exp": None}, {"iat": None}, {"sub": None}, {"sub": ""}, {"sub": 5}, {"iss": None}, {"aud": None},
        {"nbf": 2**33}, {"at_hash": "AAAA"}, {"exp": "never"},
    ],
    ids=str,
)  # fmt: skip
async def test_a_token_that_is_not_for_this_login_is_refused(
    claims: dict[str, Any], server: Site, provider: Provider
) -> None:
    def twist(found: dict[str, Any]) -> None:
        for name, value in claims.items():
            if value is None:
                found.pop(name)
            else:
                found[name] = value

    provider.twist = twist
    reply = await Browser(server).log_in()
    assert reply.status_code == 401, reply.text
    assert "token" not in reply.json()


@pytest.mark.parametrize("sign", [unsigned, with_the_public_key, by_somebody_else, lambda *_: "a.b.c", lambda *_: ""])
async def test_a_token_that_the_provider_did_not_sign_is_refused(sign: Any, server: Site, provider: Provider) -> None:
    provider.sign = sign
    reply = await Browser(server).log_in()
    assert reply.status_code == 401, reply.text


async def test_keys_may_change(server: Site, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openid, "AGAIN_S", 0.0)
    assert (await Browser(server).log_in()).status_code == 200
    provider.asked.clear()
    assert (await Browser(server).log_in()).status_code == 200
    assert "/keys" not in provider.asked
    provider.rotate()
    assert (await Browser(server).log_in()).status_code == 200
    assert provider.asked.count("/keys") == 1


async def test_unknown_keys_do_not_make_the_server_ask_all_the_time(server: Site, provider: Provider) -> None:
    await Browser(server).log_in()
    provider.sign = by_somebody_else
    provider.asked.clear()
    for _ in range(3):
        assert (await Browser(server).log_in()).status_code == 401
    assert provider.asked.count("/keys") <= 1


async def test_a_wrong_client_secret_is_told_without_it(server: Site, provider: Provider) -> None:
    provider.secret = "another"
    reply = await Browser(server).log_in()
    assert (reply.status_code, reply.json()["detail"]) == (401, "the OpenID provider refused the code: invalid_client")
    assert SECRET not in reply.text


async def test_codes_are_kept_out_of_the_log() -> None:
    assert without_token("code=abc&state=def&page=2&c%6Fde=x") == (
        "code=********&state=********&page=2&c%6Fde=********"
    )  # fmt: skip


async def test_an_error_of_the_provider_is_told(server: Site, provider: Provider) -> None:
    reply = await server.get(CALLBACK, None, params={"error": "access_denied", "state": "x"})
    assert (reply.status_code, "access_denied" in reply.json()["detail"]) == (401, True)
    assert (await server.get(CALLBACK, None)).status_code == 400


@pytest.mark.parametrize(
    ("rules", "person", "status"),
    [
        ({"allowed_domains": ("corp.example",)}, {}, 200),
        ({"allowed_domains": ("other.example",)}, {}, 403),
        ({"allowed_domains": ("corp.example",)}, {"email_verified": False}, 403),
        ({"allowed_domains": ("corp.example",)}, {"email_verified": "true"}, 403),
        ({"allowed_domains": ("corp.example",)}, {"email": "ann@corp.example.evil.example"}, 403),
        ({"allowed_domains": ("corp.example",)}, {"email": None}, 403),
        ({"allowed_groups": ("ops", "x")}, {}, 200),
        ({"allowed_groups": ("admins",)}, {}, 403),
        ({"allowed_groups": ("ops",)}, {"groups": "ops"}, 200),
        ({"allowed_groups": ("ops",)}, {"groups": None}, 403),
        ({"allowed_groups": ("ops",)}, {"groups": {"ops": 1}}, 403),
        ({"account_claim": "nick"}, {"nick": "nicky"}, 200),
        ({"account_claim": "nick"}, {}, 403),
        ({"account_claim": "email"}, {"email_verified": False, "sub": "unverified"}, 403),
        ({}, {"preferred_username": "line\nbreak", "sub": "odd"}, 403),
        ({"auto_create": False}, {"sub": "stranger", "preferred_username": "stranger"}, 403),
    ],
    ids=str,
)
async def test_who_may_come_in(
    rules: dict[str, Any], person: dict[str, Any], status: int, server: Site, provider: Provider
) -> None:
    provider.person = {name: value for name, value in {**ANN, **person}.items() if value is not None}
    admit(server, **rules)
    reply = await Browser(server).log_in()
    assert reply.status_code == status, reply.text


async def test_nobody_becomes_somebody_else_by_choosing_a_name(server: Site, provider: Provider) -> None:
    provider.person = {**ANN, "sub": "evil", "preferred_username": "admin", "admin": True}
    reply = await Browser(server).log_in()
    assert (reply.status_code, "somebody else" in reply.json()["detail"]) == (403, True)
    admit(server, link_existing=True)
    linked = await Browser(server).log_in()
    assert linked.json()["user"]["account"] == "admin"


async def test_new_people_get_the_roles_of_the_settings(server: Site, provider: Provider) -> None:
    admit(server, default_roles=(("shop", "read-only"), ("shop", "x"), ("*", "auditor")))
    provider.person = {**ANN, "sub": "new", "preferred_username": "newcomer"}
    token = (await Browser(server).log_in()).json()["token"]
    roles = (await server.get("/api/v1/me", token)).json()["roles"]
    assert sorted(roles["shop"]) == ["read-only", "x"]


async def test_what_only_user_info_tells_counts_and_contradicts_nothing(server: Site, provider: Provider) -> None:
    provider.person = {"sub": "slim"}
    provider.extra = {"preferred_username": "slim.jim", "nonce": "other", "iss": "other"}
    reply = await Browser(server).log_in()
    assert reply.json()["user"]["account"] == "slim.jim"
    provider.person = {"sub": "slimmer"}
    provider.extra = {"sub": "248289761001", "preferred_username": "somebody.else"}
    assert (await Browser(server).log_in()).status_code == 403


@pytest.mark.parametrize("verified", [True, None])
async def test_what_one_place_verifies_another_does_not_use(
    verified: bool | None, server: Site, provider: Provider
) -> None:
    admit(server, allowed_domains=("corp.example",))
    provider.person = {"sub": f"mixed-{verified}", "preferred_username": f"mixed.{verified}"}
    provider.extra = {"email": "own@corp.example", "email_verified": True}
    if verified is None:
        provider.person["email"] = "boss@corp.example"
    assert (await Browser(server).log_in()).status_code == (200 if verified else 403)


async def test_a_command_line_gets_its_token_by_what_only_it_knows(server: Site, provider: Provider) -> None:
    verifier = "v" * 43
    reply = await Browser(server).log_in(cli_port="43210", cli_challenge=challenge_of(verifier))
    assert reply.status_code == 302
    url = urlsplit(reply.headers["location"])
    assert f"{url.scheme}://{url.netloc}{url.path}" == "http://127.0.0.1:43210/"
    code = parse_qs(url.query)["code"][0]
    for wrong in ({"code": code, "verifier": "w" * 43}, {"code": code[:-4] + "AAAA", "verifier": verifier}):
        assert (await server.post(TOKEN, None, json=wrong)).status_code == 401
    login = await server.post(TOKEN, None, json={"code": code, "verifier": verifier})
    assert login.status_code == 200, login.text
    assert (await server.get("/api/v1/me", login.json()["token"])).json()["account"] == "ann.corp"
    for again in (code, f"{code}!", f"{code[:5]}.{code[5:]}"):  # the same to a decoder
        reply = await server.post(TOKEN, None, json={"code": again, "verifier": verifier})
        assert (reply.status_code, reply.json()["detail"]) == (401, "the code is wrong, too old or used: log in again")


async def test_a_code_is_good_for_a_minute(server: Site, provider: Provider) -> None:
    verifier = "v" * 43
    reply = await Browser(server).log_in(cli_port="43210", cli_challenge=challenge_of(verifier))
    code = parse_qs(urlsplit(reply.headers["location"]).query)["code"][0]
    now = server.world.clock
    server.world.ctx.clock.now = lambda: now() + 61
    try:
        late = await server.post(TOKEN, None, json={"code": code, "verifier": verifier})
    finally:
        server.world.ctx.clock.now = now
    assert late.status_code == 401


async def test_a_login_ends_once_whatever_the_provider_takes(server: Site, provider: Provider) -> None:
    """Who reads the address and the cookie of a login later gets nothing for them, nor does one of two at once."""
    browser = Browser(server)
    begun = await browser.begin()
    back = await browser.sign_in(begun.headers["location"])
    provider.generous = True
    replies = await asyncio.gather(*(browser.come_back(back) for _ in range(4)))
    assert sorted(reply.status_code for reply in replies) == [200, 401, 401, 401]


async def test_what_was_sealed_for_one_purpose_is_good_for_no_other(server: Site, provider: Provider) -> None:
    browser = Browser(server)
    await browser.begin(cli_port="43210", cli_challenge=challenge_of("v" * 43))
    cookie = next(iter(browser.cookies.values()))
    reply = await server.post(TOKEN, None, json={"code": cookie, "verifier": "v" * 43})
    assert reply.status_code == 401


@pytest.mark.parametrize(
    "query",
    [{"cli_port": "80", "cli_challenge": "c" * 43}, {"cli_port": "70000", "cli_challenge": "c" * 43},
     {"cli_port": "43210"}, {"cli_challenge": "c" * 43}, {"cli_port": "43210", "cli_challenge": "short"},
     {"cli_port": "x", "cli_challenge": "c" * 43}],
    ids=str,
)  # fmt: skip
async def test_a_command_line_that_asks_wrongly_is_told(query: dict[str, str], server: Site) -> None:
    assert (await server.get(LOGIN, None, params=query)).status_code == 400


@pytest.mark.parametrize(
    "document",
    [{"issuer": "http://other.example"}, {"token_endpoint": None}, {"jwks_uri": "ftp://x/"},
     {"authorization_endpoint": "javascript:alert(1)"}],
    ids=str,
)  # fmt: skip
async def test_a_provider_that_describes_itself_wrongly_is_not_used(
    document: dict[str, Any], provider: Provider
) -> None:
    provider.document = document
    outgoing = HttpOutgoing(Rules())
    client = OpenIdProvider(OpenIdSettings(issuer=provider.issuer, client_id=CLIENT), outgoing)
    with pytest.raises(openid.ProviderAway):
        await client.address(redirect_uri="x", state="s", nonce="n", challenge="c")
    await outgoing.aclose()


async def test_without_the_provider_nobody_logs_in_and_nothing_breaks(
    server: Site, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    outgoing = HttpOutgoing(Rules())
    settings = OpenIdSettings(issuer=provider.issuer, client_id=CLIENT)
    provider.down = True
    known = server.world.ctx.identities
    object.__setattr__(server.world.ctx, "identities", replace(known, provider=OpenIdProvider(settings, outgoing)))
    try:
        reply = await server.get(LOGIN, None)
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "10")
        provider.down = False
        provider.asked.clear()
        assert (await server.get(LOGIN, None)).status_code == 503  # told at once, not asked again
        assert not provider.asked
        monkeypatch.setattr(openid, "AWAY_S", 0.0)
        assert (await server.get(LOGIN, None)).status_code == 302
        object.__setattr__(server.world.ctx, "identities", None)
        for method, path in (("GET", LOGIN), ("GET", f"{CALLBACK}?code=a&state={'s' * 43}"), ("POST", TOKEN)):
            body = {"json": {"code": "a", "verifier": "b"}} if method == "POST" else {}
            found = await server.call(method, path, None, **body)
            assert (found.status_code, found.json()["detail"]) == (404, "this server has no OpenID provider")
    finally:
        object.__setattr__(server.world.ctx, "identities", known)
        await outgoing.aclose()


async def test_a_public_client_needs_no_secret(server: Site, provider: Provider) -> None:
    outgoing = HttpOutgoing(Rules())
    provider.secret = ""
    settings = OpenIdSettings(issuer=provider.issuer, client_id=CLIENT)
    known = server.world.ctx.identities
    object.__setattr__(server.world.ctx, "identities", replace(known, provider=OpenIdProvider(settings, outgoing)))
    try:
        assert (await Browser(server).log_in()).status_code == 200
    finally:
        object.__setattr__(server.world.ctx, "identities", known)
        await outgoing.aclose()
