"""The names this server knows, for references in declarative files."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from cador.operations.declarative.names import REFERRED, Names, makers, registry_keys
from cador.operations.people import all_users
from cador.ports.stores import Tx


def known_names(tx: Tx, project: str) -> Names:
    """What documents of *project* may refer to, as of now."""
    registries: dict[str, str] = {}
    default: dict[str, str] = {}
    for registry in tx.resources.list_kind("registry", ""):
        for key in registry_keys(registry.name, registry.document):
            registries.setdefault(key, registry.uid)
        default[registry.uid] = registry.uid
    users: dict[str, tuple[str, str]] = {}
    everybody = all_users(tx)
    for user in everybody:
        users[user.account] = (user.uid, user.name)
    # People choose the name that is shown of them: one that several have means nobody.
    shown = Counter(user.name for user in everybody)
    for user in everybody:
        if shown[user.name] == 1:
            users.setdefault(user.name, (user.uid, user.name))
    builds = {
        build.name: [(target["service_name"], target["service_module"]) for target in _targets(build.document)]
        for build in tx.resources.list_kind("build", project)
    }
    return Names(
        codehosts={host.name: (host.id, str(host.document["type"])) for host in tx.resources.list_kind("codehost", "")},
        registries={**default, **registries},
        base_images={image.name: image.uid for image in tx.resources.list_kind("baseimage", "")},
        users=users,
        services={
            service.name: [module["name"] for module in service.document["containers"]]
            for service in tx.resources.list_kind("service", project)
        },
        builds=builds,
        tests=frozenset(test.name for test in tx.resources.list_kind("test", project)),
        scans=frozenset(scan.name for scan in tx.resources.list_kind("scan", project)),
        project=project,
        ids={kind: {one.name: one.uid for one in tx.resources.list_kind(kind, "")} for kind in sorted(REFERRED)},
        made_by=makers(builds),
        plugins={plugin.name: plugin.document for plugin in tx.resources.list_kind("plugin", "")},
    )


def _targets(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(document["services"])
