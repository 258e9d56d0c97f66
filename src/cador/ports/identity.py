"""Who somebody is, by the word of an OpenID provider."""

from collections.abc import Mapping
from typing import Any, Protocol

from cador.domain.errors import CadorError


class ProviderAway(CadorError):
    """The provider did not answer as a provider does; perhaps it will later."""


class NotIdentified(CadorError):
    """The provider's word does not hold: wrong code, signature, audience, time or nonce. ``str()``: why, no secrets."""


class IdentityProvider(Protocol):
    """One OpenID provider, by the authorization code flow with PKCE."""

    @property
    def issuer(self) -> str: ...

    async def address(self, *, redirect_uri: str, state: str, nonce: str, challenge: str) -> str:
        """Where to send the browser. *challenge*: S256. Raises: ProviderAway."""

    async def identify(self, *, code: str, redirect_uri: str, nonce: str, verifier: str) -> Mapping[str, Any]:
        """The claims about who came back with *code*: proven to be the provider's, for us, for this very login, and
        now. ``sub`` and ``iss`` are there. Raises: ProviderAway, NotIdentified."""
