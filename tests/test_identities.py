"""From settings to an OpenID provider, or one line that says what does not fit."""

from pathlib import Path

import pytest

from cador.bootstrap.machine import CannotStart
from cador.bootstrap.parts import identities_of
from cador.integrations.addresses import Rules
from cador.integrations.openid import OpenIdProvider
from cador.integrations.outgoing import HttpOutgoing
from cador.settings import load

OUTGOING = HttpOutgoing(Rules())


def test_settings_become_a_provider_and_rules(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from a file\n")
    file = tmp_path / "cador.toml"
    file.write_text(f"""
[auth.oidc]
issuer = "https://id.corp/realms/main"
client_id = "cador"
client_secret_file = "{secret}"
allowed_domains = ["@Corp.example"]
default_roles = ["shop/read-only", "*/auditor"]
""")
    made = identities_of(load({}, {"CADOR_AUTH__OIDC__AUTO_CREATE": "false"}, config=file).auth.oidc, OUTGOING)
    assert made is not None
    assert isinstance(made.provider, OpenIdProvider)
    assert made.provider.issuer == "https://id.corp/realms/main"
    assert made.provider._settings.client_secret == "from a file"
    assert "from a file" not in repr(made.provider._settings)
    admission = made.admission
    assert (admission.allowed_domains, admission.auto_create) == (("corp.example",), False)
    assert admission.default_roles == (("shop", "read-only"), ("*", "auditor"))
    assert identities_of(load({"data": tmp_path / "other"}, {}).auth.oidc, OUTGOING) is None


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"ISSUER": "id.corp"}, "auth.oidc.issuer"),
        ({"ISSUER": "https://id.corp", "CLIENT_ID": ""}, "auth.oidc.client_id"),
        ({"SCOPES": "profile"}, "auth.oidc.scopes"),
        ({"CLIENT_SECRET_FILE": "/nonexistent/secret"}, "auth.oidc.client_secret_file"),
        ({"DEFAULT_ROLES": "read-only"}, "auth.oidc.default_roles"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_told(environ: dict[str, str], told: str, tmp_path: Path) -> None:
    given = {"ISSUER": "https://id.corp", "CLIENT_ID": "cador", **environ}
    settings = load({"data": tmp_path}, {f"CADOR_AUTH__OIDC__{name}": value for name, value in given.items()})
    with pytest.raises(CannotStart, match=told.replace(".", r"\.")):
        identities_of(settings.auth.oidc, OUTGOING)
