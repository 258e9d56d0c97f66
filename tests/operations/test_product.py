"""Which jobs a run by services runs, and with what: from definitions of all shapes. Pure."""

from collections.abc import Mapping
from typing import Any

import pytest

from cador.domain.errors import Invalid, NotStartable
from cador.jobs.base import Catalogue
from cador.jobs.definition import normalise, parse_workflow
from cador.operations.product import ByServices, ByTargets, GivenImage, RepoChoice, ServiceBuild, Target
from cador.ports.stores import Resource

NOTHING = Catalogue("shop", ())
API, WEB, DB = ("shop", "api"), ("shop", "web"), ("db", "db")


def job(name: str, kind: str, **spec: Any) -> dict[str, Any]:
    own = {key: spec.pop(key) for key in ("run_policy", "skipped") if key in spec}
    return {"name": name, "type": kind, "spec": spec, **own}


def build(name: str, *pairs: tuple[str, str], key: str = "service_and_builds") -> dict[str, Any]:
    entries = [{"service_name": s, "service_module": m, "build_name": "b"} for s, m in pairs]
    return job(name, "zadig-build", **{key: entries})


def listed(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"service_name": s, "service_module": m} for s, m in pairs]


def workflow(*jobs: dict[str, Any]) -> Any:
    stages = [{"name": f"s{n}", "parallel": False, "jobs": [one]} for n, one in enumerate(jobs)]
    doc = {"name": "w", "display_name": "W", "project": "shop", "concurrency_limit": -1, "stages": stages}
    return parse_workflow(normalise(doc))


def inputs(chosen: Any) -> dict[str, Mapping[str, Any]]:
    return {entry.job_name: entry.parameters for entry in chosen.inputs}


def builds(*pairs: tuple[str, str]) -> tuple[ServiceBuild, ...]:
    return tuple(ServiceBuild(*pair) for pair in pairs)


def shown(entries: Any) -> list[tuple[str, str, str]]:
    return [(one["service_name"], one["service_module"], one.get("image_name", "")) for one in entries]


def test_each_deploy_job_gets_what_its_build_job_makes() -> None:
    found = workflow(
        build("back", API, DB), build("front", WEB),
        job("to-back", "zadig-deploy", source="fromjob", job_name="back"),
        job("to-front", "zadig-deploy", source="fromjob", job_name="front"),
    )  # fmt: skip
    choose = ByServices("qa", build=True, build_list=builds(API), deploy=True, deploy_source="zadig")
    made = inputs(choose(found, NOTHING))
    assert list(made) == ["back", "to-back"]
    assert made["to-back"] == {"env_name": "qa"}
    made = inputs(ByServices(build=True, deploy=True, deploy_source="zadig")(found, NOTHING))
    assert made == {"back": {}, "front": {}, "to-back": {}, "to-front": {}}


def test_a_deploy_job_that_gets_its_images_with_the_start() -> None:
    found = workflow(
        build("make", API, WEB, DB, key="service_and_builds_options"),
        job("named", "zadig-deploy", source="runtime", service_and_images=listed(API, DB)),
        job("open", "zadig-deploy", source="runtime", service_and_images=[]),
    )
    choose = ByServices(build=True, build_list=builds(API, WEB), deploy=True, deploy_source="zadig")
    made = inputs(choose(found, NOTHING))
    api, web = (f"{{{{.job.make.shop.{module}.output.IMAGE}}}}" for module in ("api", "web"))
    assert shown(made["named"]["service_list"]) == [(*API, api)]
    assert shown(made["open"]["service_list"]) == [(*API, api), (*WEB, web)]


def test_given_images_go_to_the_job_that_names_them() -> None:
    named = job("named", "zadig-deploy", source="fromjob", job_name="make", service_and_images=listed(DB))
    other = job("other", "zadig-deploy", source="fromjob", job_name="make", service_and_images=listed(WEB))
    found = workflow(build("make", API, WEB, DB), named, other)
    choose = ByServices(deploy=True, deploy_list=(GivenImage(*DB, "db:1"),))
    made = inputs(choose(found, NOTHING))
    assert list(made) == ["named"]
    assert shown(made["named"]["service_list"]) == [(*DB, "db:1")]
    # One that no job names is for all of them.
    choose = ByServices(deploy=True, deploy_list=(GivenImage(*API, "api:1"),))
    assert list(inputs(choose(found, NOTHING))) == ["named", "other"]


def test_built_modules_and_given_images_together() -> None:
    found = workflow(build("make", API, WEB), job("to", "zadig-deploy", source="fromjob", job_name="make"))
    choose = ByServices(
        build=True, build_list=builds(API), deploy=True, deploy_source="zadig",
        deploy_list=(GivenImage(*API, "not:this"), GivenImage("li", "li", "li:1")),
    )  # fmt: skip
    made = inputs(choose(found, NOTHING))
    assert shown(made["to"]["service_list"]) == [(*API, ""), ("li", "li", "li:1")]
    with pytest.raises(Invalid, match="li/li is not built in this run"):
        ByServices(deploy=True, deploy_list=(GivenImage("li", "li", ""),))(found, NOTHING)


def test_what_comes_from_a_deploy_job_follows_it() -> None:
    found = workflow(
        build("make", API),
        job("first", "zadig-deploy", source="fromjob", job_name="make"),
        job("second", "zadig-deploy", source="fromjob", job_name="first"),
        job("spread", "zadig-distribute-image", source="fromjob", job_name="first", targets=[]),
    )
    choose = ByServices(build=True, deploy=True, deploy_source="zadig", target_env="e")
    assert inputs(choose(found, NOTHING)) == {
        "make": {}, "first": {"env_name": "e"}, "second": {"env_name": "e"}, "spread": {},
    }  # fmt: skip
    nothing_built = ByServices(deploy=True)(found, NOTHING)
    assert inputs(nothing_built) == {}
    assert (nothing_built.unknown, nothing_built.notes) == (
        (), ("job spread: there is no image to distribute, left out",),
    )  # fmt: skip


def test_jobs_that_do_not_run_by_themselves_are_left_out() -> None:
    found = workflow(
        job("a", "freestyle"),
        job("b", "freestyle", run_policy="skip"),
        job("c", "freestyle", run_policy="default_not_run"),
        job("d", "freestyle", run_policy="force_run"),
        job("e", "freestyle", skipped=True),
    )
    assert list(inputs(ByServices()(found, NOTHING))) == ["a", "d"]


def test_distribution_as_it_is_configured() -> None:
    source = {"service_name": "shop", "service_module": "api", "source_tag": "1"}
    found = workflow(
        build("make", API),
        job("tagged", "zadig-distribute-image", source="runtime", targets=[source]),
        job("empty", "zadig-distribute-image", source="runtime", targets=listed(API)),
        job("built", "zadig-distribute-image", source="fromjob", job_name="make", targets=[]),
    )
    made = inputs(ByTargets("dev", (Target("shop"),))(found, NOTHING))
    assert list(made) == ["make", "tagged", "built"]
    given = ByTargets("dev", releases=(GivenImage(*API, "api:2"),))(found, NOTHING)
    assert {name: shown_sources(one) for name, one in inputs(given).items()} == {
        "tagged": ["api:2"], "empty": ["api:2"], "built": ["api:2"],
    }  # fmt: skip


def shown_sources(parameters: Mapping[str, Any]) -> list[str]:
    return [target["source_image"] for target in parameters["target_list"]]


def test_what_nobody_builds_or_distributes() -> None:
    found = workflow(build("make", API), job("spread", "zadig-distribute-image", source="runtime", targets=listed(API)))
    with pytest.raises(NotStartable, match="service db is not built by workflow w"):
        ByTargets("dev", (Target("shop"), Target("db")))(found, NOTHING)
    with pytest.raises(NotStartable, match="Invalid service module"):
        ByTargets("dev", releases=(GivenImage(*API, "a"), GivenImage(*DB, "b")))(found, NOTHING)
    with pytest.raises(NotStartable, match="db/db is not built by workflow w"):
        ByServices(build=True, build_list=builds(DB))(found, NOTHING)
    assert ByServices(build=True, build_list=builds(API, DB))(found, NOTHING).unknown[0] == (
        "db/db is not built by workflow w"
    )


def test_the_code_host_of_a_repository_is_named_or_numbered() -> None:
    repos = [
        {"codehost_name": "hub", "repo_namespace": "t", "repo_name": "one"},
        {"codehost_id": 7, "repo_owner": "u", "repo_name": "two"},
    ]
    catalogue = Catalogue(
        "shop",
        (Resource("build", "shop", "b", {"repo_info": repos}), Resource("codehost", "", "lab", {}, id=7, uid="x")),
    )
    target = Target("shop", (RepoChoice("one", "m"), RepoChoice("two", "n", 3), RepoChoice("three", "o")))
    chosen = ByTargets("dev", (target,))(workflow(build("make", API)), catalogue)
    (service,) = inputs(chosen)["make"]["service_list"]
    assert service["repo_info"] == [
        {"codehost_name": "hub", "repo_namespace": "t", "repo_name": "one", "branch": "m", "prs": []},
        {"codehost_name": "lab", "repo_namespace": "u", "repo_name": "two", "branch": "n", "prs": [3]},
    ]
    assert chosen.unknown == ("repository three is not configured for shop/api",)


def test_the_repositories_of_a_build_from_a_template_are_those_of_the_module() -> None:
    repo = {"codehost_name": "hub", "repo_namespace": "t", "repo_name": "one"}
    targets = [{"service_name": "shop", "service_module": "api", "repo_info": [repo]}]
    catalogue = Catalogue(
        "shop",
        (
            Resource("build", "shop", "b", {"name": "b", "template_name": "go", "target_services": targets}),
            Resource("buildtemplate", "", "go", {"name": "go"}),
        ),
    )
    target = Target("shop", (RepoChoice("one", "m"),))
    chosen = ByTargets("dev", (target,))(workflow(build("make", API)), catalogue)
    (service,) = inputs(chosen)["make"]["service_list"]
    assert service["repo_info"] == [{**repo, "branch": "m", "prs": []}]
