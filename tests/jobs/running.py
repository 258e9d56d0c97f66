"""Run compiled jobs for real, and build what job types work on."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cador.domain.variables import JobFacts, job_variables, render
from cador.domain.workflow import Job, Workflow
from cador.executors.process import ProcessExecutor
from cador.jobs.base import Catalogue, CodeHostAccess, JobTaskPlan, Run, Scope
from cador.jobs.definition import normalise, parse_workflow
from cador.jobs.types import load_types
from cador.ports.executor import End, Harvest, JobFolder, Output
from cador.ports.stores import Resource

DEADLINE_S = 60
TYPES = load_types()


@dataclass(frozen=True)
class Ended:
    """``exit_code``; ``log``: everything printed; ``files``: of the workspace, as text by path."""

    exit_code: int | None
    log: str
    outputs: Mapping[str, str]
    files: Mapping[str, str]


def run_folder(folder: JobFolder, root: Path) -> Ended:
    """Run *folder* on the process executor to its end."""
    return asyncio.run(asyncio.wait_for(_run(folder, root), DEADLINE_S))


async def _run(folder: JobFolder, root: Path) -> Ended:
    executor = ProcessExecutor(root=root, installation=f"test-{uuid.uuid4().hex[:10]}", containment="tree")
    await executor.open()
    try:
        ref = await executor.start("job-1", folder)
        log = b""
        end: End | None = None
        async for event in executor.follow("job-1", ref, 0):
            if isinstance(event, Output):
                log += event.data
            elif isinstance(event, End):
                end = event
        assert end is not None
        harvest: Harvest = await executor.harvest("job-1", ref)
        assert harvest.workspace is not None
        files = {
            str(path.relative_to(harvest.workspace)): path.read_text(errors="replace")
            for path in harvest.workspace.rglob("*")
            if path.is_file() and not path.is_symlink()
        }
        return Ended(end.exit_code, log.decode(errors="replace"), harvest.outputs, files)
    finally:
        await executor.close()


def resource(kind: str, name: str, project: str = "", /, *, ident: int = 0, uid: str = "", **document: Any) -> Resource:
    return Resource(kind, project, name, document, ident, uid or f"{kind}-{name}")


@dataclass
class World:
    """A catalogue with one project ``shop``, and what a start asks of job types."""

    resources: list[Resource] = field(default_factory=list)
    hosts: dict[int, CodeHostAccess] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Warnings that strict mode lets pass."""

    def scope(self, workflow: Workflow, plans: Mapping[str, Sequence[JobTaskPlan]] | None = None) -> Scope:
        return Scope(
            catalogue=Catalogue("shop", self.resources),
            workflow=workflow,
            at=1_700_000_000.0,
            local_time="20231114221320",
            creator=("u-1", "Ann"),
            plans=plans or {},
            warn=self.warnings.append,
            note=self.notes.append,
            seal=lambda text: f"sealed:{text}",
        )

    def expand(self, workflow: Workflow, inputs: Mapping[str, Mapping[str, Any]]) -> dict[str, list[JobTaskPlan]]:
        """Update and expand the jobs that *inputs* names, in order of definition."""
        plans: dict[str, list[JobTaskPlan]] = {}
        for stage in workflow.stages:
            for job in stage.jobs:
                if job.name in inputs:
                    scope = self.scope(workflow, plans)
                    updated = TYPES[job.type].update(job, inputs[job.name], scope)
                    plans[job.name] = TYPES[job.type].expand(updated, scope)
        return plans

    def compile(
        self,
        kind: str,
        plan: JobTaskPlan,
        *,
        params: Mapping[str, str] | None = None,
        earlier: Sequence[JobFacts] = (),
    ) -> JobFolder:
        """Render the plan for the second time and compile it, as the engine does."""
        rendered, _ = render(plan.plan, job_variables(earlier).get, final=True)
        return TYPES[kind].compile(rendered, self.run(params or {}))

    def run(self, params: Mapping[str, str]) -> Run:
        opened: dict[str, None] = {}

        def opener(text: str) -> str:
            if not text.startswith("sealed:"):
                return text
            opened[text.removeprefix("sealed:")] = None
            return text.removeprefix("sealed:")

        catalogue = Catalogue("shop", self.resources)
        return Run(
            workflow="ship",
            project="shop",
            number=26,
            job_task="job",
            task_url="http://ci.example.com/task/26",
            params=params,
            open=opener,
            codehost=self.hosts.get,
            secrets=lambda: tuple(opened),
            resource=lambda kind, ident: catalogue.by_id(kind, ident) or catalogue.find(kind, ident),
        )


def workflow(*stages: Mapping[str, Any], **more: Any) -> Workflow:
    return parse_workflow(
        normalise({"name": "ship", "project": "shop", "concurrency_limit": 1, "stages": list(stages), **more})
    )


def one_job(kind: str, spec: Mapping[str, Any], name: str = "job") -> Workflow:
    return workflow({"name": "s", "jobs": [{"name": name, "type": kind, "spec": dict(spec)}]})


def job_of(definition: Workflow, name: str) -> Job:
    job = definition.job(name)
    assert job is not None
    return job
