"""Where secrets are in documents of the wire's shape, and what is done with them there.

Two rules find them, at any depth: an object with ``is_credential: true`` (or ``secret: true``, in the one-file form)
hides its values; a key of :data:`SECRET_KEYS` hides its value. All functions return new documents and share what they
did not change.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from cador.domain.masking import MASK

SECRET_KEYS: Final = frozenset(
    {
        "access_token",
        "agent_secret",
        "app_secret",
        "client_secret",
        "corp_secret",
        "dingtalk_aes_key",
        "dingtalk_app_secret",
        "dingtalk_token",
        "encrypt_key",
        "jira_personal_access_token",
        "jira_token",
        "kube_config",
        "kubeconfig",
        "meego_plugin_secret",
        "oauth_token",
        "password",
        "ping_code_client_secret",
        "private_access_token",
        "refresh_token",
        "secret",
        "secret_key",
        "sk",
        "sonar_token",
        "ssh_key",
        "tapd_client_secret",
        "token",
        "webhook_secret",
        "workwx_aes_key",
        "workwx_token",
    }
)
"""Keys whose text is a secret wherever they stand."""

CREDENTIAL_VALUES: Final = frozenset({"value", "default", "default_value", "choice_value"})
"""What is secret in an object with ``is_credential: true``."""

_REFERENCES: Final = frozenset({"valueFrom", "value_from"})
"""Objects that name a stored secret: ``{secret: <name>, key: <key>}``; a name is none."""

_IDENTITIES: Final = (("key",), ("name",), ("id",), ("job_name",), ("service_name", "service_module"), ("repo_name",))
"""What tells the elements of a list apart, first that fits."""


def change_credentials(doc: Any, change: Callable[[str], str]) -> Any:
    """Return *doc* with every secret text replaced by what *change* makes of it. Empty texts stay empty: not set."""
    match doc:
        case Mapping():
            places = _places(doc)
            return {
                key: _change_all(value, change)
                if key in places
                else value
                if key in _REFERENCES
                else change_credentials(value, change)
                for key, value in doc.items()
            }
        case list() | tuple():
            return [change_credentials(element, change) for element in doc]
        case _:
            return doc


def mask_credentials(doc: Any) -> Any:
    """Return *doc* as it may be shown: secrets that are set become ``********``."""
    return change_credentials(doc, lambda _: MASK)


def seal_credentials(doc: Any, seal: Callable[[str], str]) -> Any:
    """Return *doc* as it may be stored; *seal* leaves alone what is sealed already."""
    return change_credentials(doc, seal)


def keep_masked(new: Any, old: Any) -> Any:
    """Return *new* with the secrets of *old* where a client sent ``********`` back, unchanged.

    Places are compared by the way to them; elements of lists by their key, name or id, elements without one by their
    position. A mask with nothing old behind it stays, see :func:`masked_places`. Only secrets of *old* are taken, and
    only into places that are secret in *new*: nothing hidden can be moved to where it is shown.
    """
    match new, old:
        case Mapping(), Mapping():
            places, old_places = _places(new), _places(old)
            return {
                key: (_keep_all(value, old.get(key)) if key in old_places else value)
                if key in places
                else keep_masked(value, old.get(key))
                for key, value in new.items()
            }
        case list() | tuple(), list() | tuple():
            return [keep_masked(element, counterpart) for element, counterpart in _pairs(new, old)]
        case _:
            return new


def masked_places(doc: Any, place: str = "") -> Iterator[str]:
    """Where a secret is still ``********``, as ``stages[0].jobs[1].spec.token``: no value to store."""
    match doc:
        case Mapping():
            places = _places(doc)
            for key, value in doc.items():
                here = f"{place}.{key}" if place else str(key)
                if key in places:
                    if any(text == MASK for text in _texts(value)):
                        yield here
                elif key not in _REFERENCES:
                    yield from masked_places(value, here)
        case list() | tuple():
            for number, element in enumerate(doc):
                yield from masked_places(element, f"{place}[{number}]")


def secret_values(doc: Any) -> Iterator[str]:
    """All secret texts of *doc*: what must not appear in logs."""
    match doc:
        case Mapping():
            places = _places(doc)
            for key, value in doc.items():
                if key in places:
                    yield from _texts(value)
                elif key not in _REFERENCES:
                    yield from secret_values(value)
        case list() | tuple():
            for element in doc:
                yield from secret_values(element)


def _places(doc: Mapping[str, Any]) -> frozenset[str]:
    """Keys of *doc* under which everything is secret."""
    named = frozenset(key for key in doc if key in SECRET_KEYS and not isinstance(doc[key], Mapping))
    if doc.get("is_credential") is True or doc.get("secret") is True:
        return named | CREDENTIAL_VALUES
    return named


def _change_all(value: Any, change: Callable[[str], str]) -> Any:
    match value:
        case str():
            return change(value) if value else value
        case None | bool():
            return value
        case int() | float():
            return change(str(value))
        case Mapping():
            return {key: _change_all(inner, change) for key, inner in value.items()}
        case list() | tuple():
            return [_change_all(inner, change) for inner in value]
        case _:
            return value


def _keep_all(new: Any, old: Any) -> Any:
    match new, old:
        case str(), str() | int() | float() if new == MASK and not isinstance(old, bool) and old != "":
            return old
        case Mapping(), Mapping():
            return {key: _keep_all(value, old.get(key)) for key, value in new.items()}
        case list() | tuple(), list() | tuple():
            return [_keep_all(value, old[place] if place < len(old) else None) for place, value in enumerate(new)]
        case _:
            return new


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            if value:
                yield value
        case None | bool():
            return
        case int() | float():
            yield str(value)
        case Mapping():
            for inner in value.values():
                yield from _texts(inner)
        case list() | tuple():
            for inner in value:
                yield from _texts(inner)


def _pairs(new: Sequence[Any], old: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Each element of *new* with its counterpart; the n-th of several alike with the n-th."""
    left: dict[tuple[str, ...], list[Any]] = {}
    for element in old:
        left.setdefault(_identity(element), []).append(element)
    positions = dict(enumerate(old))
    for number, element in enumerate(new):
        identity = _identity(element)
        if identity:
            alike = left.get(identity)
            yield element, alike.pop(0) if alike else None
        else:
            counterpart = positions.get(number)
            yield element, counterpart if not _identity(counterpart) else None


def _identity(element: Any) -> tuple[str, ...]:
    if isinstance(element, Mapping):
        for keys in _IDENTITIES:
            values = tuple(element.get(key) for key in keys)
            if all(isinstance(value, (str, int)) and value != "" for value in values):
                return (*keys, *map(str, values))
    return ()
