"""Settings of the server: a TOML file, then the environment, then flags; the later wins.

``engine.max_jobs`` is ``[engine] max_jobs`` in the file and ``CADOR_ENGINE__MAX_JOBS`` in the environment. Every
setting is a field with a type, a default and a sentence (``doc``); ``docs/settings.md`` is written from them by
:func:`document`. Only ``bootstrap`` and the command line read settings; everything else is handed values.
"""

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, get_type_hints

from cador.domain.errors import CadorError

T = TypeVar("T")

NOT_SETTINGS: Final = ("CADOR_URL", "CADOR_TOKEN", "CADOR_CONTEXT", "CADOR_CONFIG")
"""Variables of the command line that share the prefix; those of the tests and of jobs are told by their prefix."""
_OTHER_PREFIXES: Final = ("CADOR_TEST_", "CADOR_JOB_")
LARGEST: Final = 2**53
"""No number may be larger: beyond it neither databases nor calendars follow."""


class SettingsError(CadorError):
    """A setting is unknown or its value does not fit. ``str(error)`` names the place and what would be right."""


def _setting(
    default: Any,
    doc: str,
    *,
    choices: tuple[str, ...] = (),
    least: float = 0,
    most: float = LARGEST,
    secret: bool = False,
) -> Any:
    """*least*, *most*: bounds of a number. *secret*: never shown, neither in ``repr`` nor in an error."""
    metadata = {"doc": doc, "choices": choices, "least": least, "most": most, "secret": secret}
    return field(default=default, repr=not secret, metadata=metadata)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    max_running_tasks: int = field(
        default_factory=lambda: max(2, _cores()),
        metadata={
            "doc": "Workflow tasks that run at once over the whole server; the others wait in the queue.",
            "shown": "number of cores, at least 2",
            "least": 1,
        },
    )
    max_running_per_project: int = _setting(
        0, "Of those, tasks of one project; 0 is no limit. All three limits can be changed by `cador settings set`."
    )
    max_running_per_user: int = _setting(0, "Of those, tasks that one user started; 0 is no limit.")
    max_jobs_per_stage: int = _setting(5, "Job tasks of one parallel stage that run at once.", least=1)
    max_jobs: int = field(
        default_factory=lambda: 4 * _cores(),
        metadata={
            "doc": "Job tasks that run at once over the whole server.",
            "shown": "4 times the number of cores",
            "least": 1,
        },
    )
    replica_timeout_s: float = _setting(
        60.0,
        "Seconds without a sign of life after which the other servers of a PostgreSQL database take a frozen one for "
        "dead. One that ends or is killed is noticed within a second, whatever this says.",
        least=1,
    )
    resolve_commits_s: float = _setting(
        3.0, "Seconds a start may spend asking code hosts for commit ids; what is unknown then is read at checkout."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    user: str = _setting(
        "",
        "Account that jobs run as when the server runs as root; empty takes `nobody`. Without root, jobs run as the "
        "server's own user.",
    )
    root: str = _setting(
        "",
        "Folder of running jobs; empty takes `jobs` in the data folder or, when the server runs as root, "
        "`/var/lib/cador/jobs`: the account of the jobs must be able to reach it.",
    )
    stop_grace_s: float = _setting(1.5, "Seconds between TERM and KILL when a job is stopped.")
    memory_limit_bytes: int = _setting(0, "Most memory of one job where the machine can limit it; 0 is no limit.")
    cpu_limit_milli: int = _setting(
        0, "Most processor time of one job in thousandths of a core where the machine can limit it; 0 is no limit."
    )
    pids_limit: int = _setting(0, "Most processes of one job where the machine can limit it; 0 is no limit.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorSettings:
    process: ProcessSettings = field(default_factory=ProcessSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSettings:
    max_days: int = _setting(
        365,
        "Days after which a task that is over is archived: it leaves the lists, its logs and artifacts are deleted, by"
        " its number it is still found. 0 keeps all. The three of `retention` can be changed by `cador settings set`.",
    )
    max_items_per_workflow: int = _setting(
        0, "Of each workflow only the newest so many tasks stay; older ones that are over are archived. 0 keeps all."
    )
    purge_days: int = _setting(0, "Days after which nothing at all is left of an archived task; 0 is never.")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    url: str = _setting(
        "",
        "Shared store that logs and artifacts are copied to: `s3://bucket/prefix`, `gs://...`, `az://container/...`, or"
        " `file:///folder` that all servers see; empty is none. Needs the extra `s3` of the package.",
    )
    endpoint: str = _setting("", "Address of a store of S3's kind that is not Amazon's, such as `https://minio:9000`.")
    region: str = _setting("", "Region of the bucket; empty is that of the environment.")
    access_key_id: str = _setting(
        "", "Key of the store (Azure: the account); empty is that of the environment or the machine.", secret=True
    )
    secret_access_key: str = _setting("", "Secret that belongs to the key of the store.", secret=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    listen: str = _setting(
        "127.0.0.1:0",
        "Address and port where the other servers of a PostgreSQL database fetch logs and artifacts; port 0 takes a"
        " free one. Servers on several machines need one that the others reach, in a network of their own: what is"
        " fetched is signed, not encrypted.",
    )
    address: str = _setting(
        "", "URL under which the others reach `cluster.listen`, such as `http://ci-2:8701`; empty follows `listen`."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    max_bytes_per_job: int = _setting(
        256 * 1024 * 1024, "Most bytes of one job's log; what follows is cut with a visible line.", least=1024
    )
    format: str = _setting(
        "auto",
        "Form of the server's own log: `json` lines, coloured `text`, or `auto`: text on a terminal.",
        choices=("auto", "json", "text"),
    )
    level: str = _setting(
        "info", "Least important line of the server's own log.", choices=("debug", "info", "warning", "error")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingSettings:
    allow: tuple[str, ...] = _setting(
        (),
        "Networks (`10.0.0.0/8`), addresses and host names (`ci.corp`, `*.corp`) that users may have this server call"
        " although they are not public: callbacks, hooks, and whatever else calls an address that a user wrote. Private"
        " networks are open to addresses of administrators without it; link-local and metadata addresses never are.",
    )
    deny: tuple[str, ...] = _setting(
        (), "Networks, addresses and host names that are never called, whoever wrote them; wins over `outgoing.allow`."
    )
    proxy: str = _setting(
        "",
        "URL of an HTTP proxy for all such calls, with user and password if it wants them. Proxies named in the"
        " environment are not used.",
        secret=True,
    )
    ca_file: str = _setting("", "PEM file of certificate authorities that are trusted beside the usual ones.")
    timeout_s: float = _setting(10.0, "Seconds that one call may take as a whole.", least=0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSettings:
    issuer: str = _setting(
        "",
        "Issuer of an OpenID provider by which people log in, as it names itself in its tokens"
        " (`https://id.corp/realms/main`); empty is none. Register `<base_url>/api/v1/auth/oidc/callback` there.",
    )
    client_id: str = _setting("", "Name of this server at the provider.")
    client_secret: str = _setting("", "Secret that belongs to it; empty for a public client.", secret=True)
    client_secret_file: str = _setting("", "File that holds that secret instead.")
    scopes: tuple[str, ...] = _setting(("openid", "profile", "email"), "What the provider is asked to tell.")
    account_claim: str = _setting(
        "preferred_username", "Claim that names the account. `email` counts only when the provider has verified it."
    )
    groups_claim: str = _setting("groups", "Claim that lists somebody's groups.")
    allowed_domains: tuple[str, ...] = _setting(
        (), "Only people with a verified e-mail address of one of these domains may log in; empty is any."
    )
    allowed_groups: tuple[str, ...] = _setting((), "Only people in one of these groups may log in; empty is any.")
    auto_create: bool = _setting(True, "Give people a user when they log in for the first time.")
    link_existing: bool = _setting(
        False,
        "Let somebody whose account is that of a user here log in as that user. Only for providers whose people cannot"
        " choose that name: else anybody could be the administrator.",
    )
    default_roles: tuple[str, ...] = _setting(
        (), "Roles of users that are made so: `shop/read-only` in a project, `*/name` a role of the system."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    session_hours: int = _setting(24, "Hours that a sign-in lasts, ten years at most.", least=1, most=87_600)
    oidc: OidcSettings = field(default_factory=OidcSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one server. Made by :func:`load`; tests and the demo build one directly."""

    data: Path = field(
        default_factory=lambda: data_folder(os.environ),
        metadata={
            "doc": "Folder of everything the server keeps; created with mode 0700.",
            "shown": "`$XDG_DATA_HOME/cador`, else `~/.local/share/cador`",
        },
    )
    listen: str = _setting("127.0.0.1:8700", "Address and port of the server; port 0 takes a free one.")
    base_url: str = _setting("", "Address people reach the server under, for links; empty follows `listen`.")
    database: str = _setting(
        "",
        "Database URL (`postgresql://user@host/name`); empty is the SQLite file `cador.db` in the data folder.",
        secret=True,
    )
    language: str = _setting(
        "zh", "Language of messages when a request names none, and of notifications.", choices=("zh", "en")
    )
    strict_inputs: bool = _setting(
        False, "Refuse unknown names of jobs, services, repositories and parameters in a start instead of warning."
    )
    max_body_bytes: int = _setting(10 * 1024 * 1024, "Largest request body.", least=1024)
    admin_token: str = _setting(
        "", "Token of the administrator, at least 20 characters; empty makes one at the first start.", secret=True
    )
    admin_password: str = _setting(
        "", "Password of the administrator `admin`; empty: signs in by token only.", secret=True
    )
    key: str = _setting(
        "",
        "Key that seals credentials, 32 bytes in base64; empty keeps one in the file `key` of the data folder.",
        secret=True,
    )
    engine: EngineSettings = field(default_factory=EngineSettings)
    executors: ExecutorSettings = field(default_factory=ExecutorSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    log: LogSettings = field(default_factory=LogSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    outgoing: OutgoingSettings = field(default_factory=OutgoingSettings)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of ``listen``. Raises: SettingsError."""
        return split_address("listen", self.listen)


def split_address(name: str, listen: str) -> tuple[str, int]:
    """Host and port of the setting *name*. Raises: SettingsError."""
    host, colon, port = listen.rpartition(":")
    if not colon or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise SettingsError(f"{name}: {listen!r} is not an address; write host:port, e.g. 127.0.0.1:8700")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - ":8700" means all interfaces, as users expect


def data_folder(environ: Mapping[str, str]) -> Path:
    """The data folder when no flag and no file names one."""
    if named := environ.get("CADOR_DATA"):
        return Path(named).expanduser()
    home = environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path("~/.local/share").expanduser()) / "cador"


def load(
    flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None, config: Path | None = None
) -> Settings:
    """Settings from *config* (default: ``cador.toml`` in the data folder, if it is there), *environ*, *flags*.

    *flags*: dotted names -> values; None: not given. Raises: SettingsError.
    """
    environ = os.environ if environ is None else environ
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    values: dict[str, tuple[Any, str]] = {}
    if config is None and environ.get("CADOR_CONFIG"):
        config = Path(environ["CADOR_CONFIG"]).expanduser()
    named = config is not None
    path = config or Path(given.get("data") or data_folder(environ)) / "cador.toml"
    if named or path.is_file():
        for name, value in _read_file(path):
            values[name] = (value, str(path))
    for variable, text in environ.items():
        if variable.startswith("CADOR_") and variable not in NOT_SETTINGS and not variable.startswith(_OTHER_PREFIXES):
            values[variable.removeprefix("CADOR_").lower().replace("__", ".")] = (text, variable)
    values.update({name: (value, f"--{name.replace('_', '-')}") for name, value in given.items()})
    known = [name for name, _, _ in walk()]
    for name, (_, source) in values.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else "; the settings are listed in docs/settings.md"
            raise SettingsError(f"{source}: unknown setting {name}{hint}")
    return _build(Settings, "", values)


def _read_file(path: Path) -> Iterator[tuple[str, Any]]:
    import tomllib  # only a server with a file needs the parser

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
    yield from _flat(table, "")


def _flat(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _build(kind: type[T], prefix: str, values: Mapping[str, tuple[Any, str]]) -> T:
    hints = get_type_hints(kind)
    built: dict[str, Any] = {}
    for one in fields(kind):  # type: ignore[arg-type]  # always one of the dataclasses above
        name = prefix + one.name
        if is_dataclass(hints[one.name]):
            built[one.name] = _build(hints[one.name], f"{name}.", values)
        elif name in values:
            value, source = values[name]
            built[one.name] = _parse(name, value, hints[one.name], one, source)
    return kind(**built)


def _parse(name: str, value: Any, kind: Any, one: Field[Any], source: str) -> Any:
    def wrong(right: str) -> SettingsError:
        told = "the value" if one.metadata.get("secret") else repr(value)
        return SettingsError(f"{source}: {name}: {told} is not {right}")

    if kind is bool:
        if isinstance(value, bool):
            return value
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if not isinstance(value, str) or value.lower() not in words:
            raise wrong("true or false")
        return words[value.lower()]
    if kind in (int, float):
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise wrong("a number")
        try:
            number = kind(value)
        except (ValueError, OverflowError) as error:  # infinity is no whole number
            raise wrong("a whole number" if kind is int else "a number") from error
        if kind is int and isinstance(value, float) and value != number:
            raise wrong("a whole number")
        least = one.metadata.get("least", 0)
        if not number >= least:
            raise wrong(f"at least {least}")
        most = one.metadata.get("most", LARGEST)
        if number > most:
            raise wrong(f"at most {most}")
        return number
    if kind == tuple[str, ...]:
        entries = value.split(",") if isinstance(value, str) else value
        if not isinstance(entries, (list, tuple)) or not all(isinstance(entry, str) for entry in entries):
            raise wrong("a list of texts")
        return tuple(entry.strip() for entry in entries if entry.strip())
    if kind is Path:
        if not isinstance(value, (str, Path)) or not str(value):
            raise wrong("a path")
        return Path(value).expanduser()
    if not isinstance(value, str):
        raise wrong("a text")
    choices = one.metadata.get("choices") or ()
    if choices and value not in choices:
        raise wrong(f"one of {', '.join(choices)}")
    if name == "admin_token" and value and len(value) < 20:
        raise wrong("at least 20 characters long")
    return value


def walk() -> Iterator[tuple[str, Field[Any], Any]]:
    """Every setting: dotted name, field, type."""

    def inside(kind: type, prefix: str) -> Iterator[tuple[str, Field[Any], Any]]:
        hints = get_type_hints(kind)
        for one in fields(kind):
            if is_dataclass(hints[one.name]):
                yield from inside(hints[one.name], f"{prefix}{one.name}.")
            else:
                yield prefix + one.name, one, hints[one.name]

    return inside(Settings, "")


def document() -> str:
    """The text of ``docs/settings.md``."""
    names = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "true, false",
        Path: "path",
        tuple[str, ...]: "list of texts",
    }
    lines = [
        "# Settings",
        "",
        "A TOML file (`--config`, else `cador.toml` in the data folder), then the environment, then flags of"
        " `cador serve`; the later wins. A key nobody knows is an error that names the nearest one.",
        "",
        "`engine.max_jobs` is `max_jobs` below `[engine]` in the file, and `CADOR_ENGINE__MAX_JOBS` in the environment."
        " Lists are TOML arrays in the file and comma-separated in the environment.",
        "",
        "This page is written from `src/cador/settings.py` by `make docs`.",
        "",
        "| setting | environment | type | default | what it does |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, one, kind in walk():
        choices = one.metadata.get("choices") or ()
        type_name = " or ".join(f"`{choice}`" for choice in choices) or names[kind]
        variable = "CADOR_" + name.upper().replace(".", "__")
        lines.append(f"| `{name}` | `{variable}` | {type_name} | {_shown(one)} | {one.metadata['doc']} |")
    return "\n".join(lines) + "\n"


def _shown(one: Field[Any]) -> str:
    if shown := one.metadata.get("shown"):
        return str(shown)
    if one.default is MISSING or one.default in ("", ()):
        return "empty"
    if isinstance(one.default, bool):
        return f"`{str(one.default).lower()}`"
    if isinstance(one.default, tuple):
        return f"`{', '.join(one.default)}`"
    return f"`{one.default}`"
