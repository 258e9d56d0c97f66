"""The images that a task has built, as the oldest editions of the API show them."""

from collections.abc import Iterable
from dataclasses import dataclass

from cador.domain.task import JobStatus
from cador.jobs.values import text
from cador.ports.stores import JobRow


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """``registry``: address and namespace, scheme included; empty without one."""

    image: str
    service: str
    registry: str


def images_of(jobs: Iterable[JobRow]) -> tuple[BuiltImage, ...]:
    """Those of builds that have passed."""
    return tuple(
        _image(job)
        for job in jobs
        if job.type == "zadig-build" and job.status == JobStatus.PASSED and job.outputs.get("IMAGE")
    )


def _image(job: JobRow) -> BuiltImage:
    spec = job.plan.get("spec", {})
    naming = spec.get("naming", {})
    host, namespace = text(naming.get("host")).rstrip("/"), text(naming.get("namespace")).strip("/")
    if host and "://" not in host:
        host = f"https://{host}"
    return BuiltImage(job.outputs["IMAGE"], text(spec.get("service_name")), "/".join(filter(None, (host, namespace))))
