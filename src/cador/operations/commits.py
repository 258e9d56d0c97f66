"""Which commits a task works on: found out when it is created, the same ever after."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cador.domain.naming import primary_repo
from cador.engine.preparing import code_host_access
from cador.jobs.base import Catalogue
from cador.operations.context import Context
from cador.operations.starting import Draft, repos_at

if TYPE_CHECKING:
    from cador.ports.code_hosts import CodeHostAccess


def _none(repo: Mapping[str, Any]) -> bool:
    return False


async def freeze_commits(
    ctx: Context, catalogue: Catalogue, draft: Draft, frozen: Callable[[Mapping[str, Any]], bool] = _none
) -> None:
    """Freeze the commits of all repositories as they are now. What cannot be asked is a warning, the job finds out.

    *frozen*: repositories of the draft whose commits are known already.
    """

    def open_(text: str) -> str:
        return ctx.sealer.open(text) if ctx.sealer.is_sealed(text) else text

    asked: list[tuple[dict[str, Any], CodeHostAccess]] = []
    for repo in draft.repositories():
        host = code_host_access(catalogue, repo.get("codehost_id") or 0, open_)
        if host is None:
            draft.warnings.append(f"code host {repo.get('codehost_id')} of {repo.get('repo_name')} is not known")
        elif not frozen(repo) and not (
            repo.get("enable_commit") and repo.get("commit_id") and repo.get("commit_message")
        ):
            asked.append((repo, host))
    if asked:
        found = await ctx.resolve_commits(asked, ctx.options().resolve_commits_s)
        for (repo, _), resolved in zip(asked, found, strict=True):
            repo.update({key: value for key, value in resolved.facts.items() if value})
            if resolved.problem:
                draft.warnings.append(resolved.problem)
    for n, (index, job, job_type, plan) in enumerate(draft.plans):
        repos = [repo for path in plan.repos for repo in repos_at(plan.plan, path)]
        primary = primary_repo(repos)
        if primary is not None and primary.get("commit_id"):
            variables = {**plan.variables, f"job.{plan.key}.COMMITID": str(primary["commit_id"])}
            draft.plans[n] = (index, job, job_type, replace(plan, variables=variables))
