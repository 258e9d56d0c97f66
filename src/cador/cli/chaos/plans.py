"""Random workflows of which it is known what must become of them."""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

WORDS: Final = ("compile", "lint", "unit", "pack", "probe", "report")


@dataclass(frozen=True, slots=True)
class Job:
    """Prints *lines* lines over *seconds*. It fails its first *failures* attempts, always when that is -1."""

    name: str
    lines: int
    seconds: float
    failures: int = 0
    policy: str = ""

    @property
    def passes(self) -> bool:
        return self.failures == 0 or (self.failures > 0 and self.policy == "retry")


@dataclass(frozen=True, slots=True)
class Stage:
    name: str
    parallel: bool
    jobs: tuple[Job, ...]
    approval: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A workflow. ``limit``: how many of its tasks may run at once, -1 any number."""

    key: str
    stages: tuple[Stage, ...]
    limit: int
    jobs: dict[str, Job] = field(default_factory=dict)

    def status(self) -> str:
        """What a task of it ends as when nobody cancels or rejects it."""
        for stage in self.stages:
            for job in stage.jobs:
                if not job.passes and job.policy != "ignore_error":
                    return "failed"
        return "passed"


def plans(chance: random.Random, count: int) -> list[Plan]:
    return [_plan(chance, number) for number in range(count)]


def _plan(chance: random.Random, number: int) -> Plan:
    stages: list[Stage] = []
    for index in range(chance.randint(1, 3)):
        jobs = tuple(_job(chance, f"{word}-{index}") for word in chance.sample(WORDS, chance.randint(1, 3)))
        stages.append(
            Stage(f"stage {index}", chance.random() < 0.5, jobs, approval=index > 0 and chance.random() < 0.3)
        )
    limit = chance.choice((-1, -1, 1, 2))
    return Plan(f"chaos-{number}", tuple(stages), limit, {job.name: job for stage in stages for job in stage.jobs})


def _job(chance: random.Random, name: str) -> Job:
    lines, seconds = chance.choice((5, 50, 400)), chance.choice((0.0, 0.1, 0.4, 1.5))
    dice = chance.random()
    if dice < 0.05:
        return Job(name, lines, seconds, -1)
    if dice < 0.1:
        return Job(name, lines, seconds, -1, "ignore_error")
    if dice < 0.13:
        return Job(name, lines, seconds, 1, "retry")
    return Job(name, lines, seconds)


def definition(plan: Plan, project: str, trace: Path, approver: dict[str, str]) -> dict[str, Any]:
    """The workflow as the API takes it. Each job notes in *trace* that it began and that it came to its end."""
    stages = []
    for stage in plan.stages:
        jobs = [_job_definition(plan, job, trace) for job in stage.jobs]
        one: dict[str, Any] = {"name": stage.name, "parallel": stage.parallel, "jobs": jobs}
        if stage.approval:
            native = {"approve_users": [approver], "needed_approvers": 1, "timeout": 600}
            one["approval"] = {"enabled": True, "type": "native", "native_approval": native}
        stages.append(one)
    return {
        "name": plan.key,
        "display_name": plan.key,
        "project": project,
        "concurrency_limit": plan.limit,
        "stages": stages,
    }


def _job_definition(plan: Plan, job: Job, trace: Path) -> dict[str, Any]:
    pause = f"sleep {job.seconds / 5:.3f}" if job.seconds else ":"
    fails = "exit 1"
    if job.failures == 0:
        fails = ":"
    elif job.failures > 0:
        fails = f'[ "$(grep -c "^begin $me\\$" "$trace")" -gt {job.failures} ] || exit 1'
    script = f"""
me="{plan.key}/$TASK_ID/{job.name}" trace="{trace}"
echo "begin $me" >> "$trace"
n=0
for part in 1 2 3 4 5; do
  for line in $(seq {job.lines // 5}); do n=$((n + 1)); echo "line $n of $me"; done
  {pause}
done
{fails}
echo "end $me" >> "$trace"
"""
    one: dict[str, Any] = {
        "name": job.name,
        "type": "freestyle",
        "spec": {
            "properties": {"timeout": 10},
            "steps": [{"name": "run", "type": "shell", "spec": {"script": script}}],
        },
    }
    if job.policy:
        one["error_policy"] = {"policy": job.policy, "maximum_retry": 2}
    return one
