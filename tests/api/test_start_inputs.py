"""What a start request may carry, member by member: documented values are taken, all others refused with their place.

The requests are those of the documents (``tests/documents``): every member of their bodies is tried with a value of
every other JSON type.
"""

import re
from collections.abc import AsyncIterator, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from pydantic import ValidationError

from api.site import Site, definition, site
from cador.api.bodies import faults_of
from cador.api.run_body import RunBody
from support.world import PROJECT

DOCUMENTS: Final = Path(__file__).parent.parent / "documents"
TASK: Final = "/openapi/workflows/custom/task"
OTHERS: Final[dict[type, tuple[Any, ...]]] = {
    str: (7, True, ["x"], {"x": 1}),
    int: ("7", True, 7.5, [7], {"x": 7}),
    bool: ("true", 1, [True], {"x": True}),
    list: ("x", 7, True, {"x": 1}),
    dict: ("x", 7, True, ["x"]),
}
"""Values that are none of a type."""


def documented() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted(DOCUMENTS.glob("edition_*.yaml")):
        for entry in yaml.load(file.read_text(), Loader=yaml.CSafeLoader):
            if entry["name"].startswith("C5"):
                bodies = [entry["request"]["body"], *(v["body"] for v in entry.get("variants", ()))]
                yield from ((f"{file.stem[-1]}/{entry['name']}", body) for body in bodies)


def members(node: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield (*place, key), value
        yield from members(value, (*place, key))


def told(place: tuple[str | int, ...]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")
    return {"workflow_name": "workflow_key", "project_name": "project_key"}.get(text, text)


def test_every_documented_member_has_one_type() -> None:
    """Of every documented start request: no member may be of another type, and the answer names it."""
    tried, silent = set(), []
    for name, body in documented():
        RunBody.model_validate(body)
        for place, value in members(body):
            shape = tuple(part for part in place if isinstance(part, str))
            if (shape, type(value)) in tried:
                continue
            tried.add((shape, type(value)))
            for other in OTHERS[type(value)]:
                changed: Any = deepcopy(body)
                holder = changed
                for part in place[:-1]:
                    holder = holder[part]
                holder[place[-1]] = other
                try:
                    RunBody.model_validate(changed)
                except ValidationError as error:
                    if not faults_of(error).startswith(told(place)):
                        silent.append((name, told(place), other, faults_of(error)))
                else:
                    silent.append((name, told(place), other, "accepted"))
    assert silent == []
    assert len(tried) > 80


# -- against a server


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Workflow ``w`` with jobs of many types, a notification to WeCom and one to Teams, and variables of all types."""
    async with site(tmp_path_factory.mktemp("inputs")) as made:
        for name in ("dev", "qa"):
            await made.world.add("environment", name, {"env_key": name})
        say = definition("w")["stages"][0]["jobs"][0]
        deploy = {"name": "ship", "type": "zadig-deploy", "spec": {"env": "dev"}}
        custom = {"name": "image", "type": "custom-deploy", "spec": {"namespace": "n", "targets": []}}
        ask = {
            "name": "ask",
            "type": "approval",
            "spec": {"native_approval": {"approve_users": [{"user_name": "ann"}], "needed_approvers": 1}},
        }
        reply = await made.post(
            "/api/aslan/workflow/v4",
            json={
                **definition("w"),
                "stages": [{"name": "all", "parallel": True, "jobs": [say, deploy, custom, ask]}],
                "params": PARAMS,
                "notify_ctls": [
                    {
                        "enabled": True,
                        "webhook_type": "wechat",
                        "notify_type": ["failed"],
                        "wechat_notification_config": {"hook_address": "https://hooks.example.com/secret-address"},
                    },
                    {"webhook_type": "msteams", "msteams_notification_config": {"hook_address": "https://x.example"}},
                ],
            },
        )
        assert reply.status_code == 200, reply.text
        yield made


PARAMS: Final = [
    {"name": "text", "type": "text", "value": "a"},
    {"name": "string", "type": "string", "value": "a"},
    {"name": "choice", "type": "choice", "value": "a", "choice_option": ["a", "b"]},
    {"name": "some", "type": "multi-select", "value": "a", "choice_option": ["a", "b", "c"]},
    {"name": "code", "type": "repo", "value": "", "repo": None},
    {"name": "file", "type": "file", "value": ""},
    {"name": "kept", "type": "string", "value": "a", "source": "fixed"},
    {"name": "password", "type": "string", "value": "", "is_credential": True},
]


async def start(server: Site, *, query: dict[str, str] | None = None, **fields: Any) -> Any:
    body = {"workflow_key": "w", "project_key": PROJECT, "inputs": [{"job_name": "say"}], **fields}
    return await server.post(TASK, json=body, params=query or {})


def job(name: str, **parameters: Any) -> dict[str, Any]:
    return {"inputs": [{"job_name": name, "parameters": parameters}]}


SERVICE: Final = {"service_name": "a", "service_module": "x", "image_name": "r/x:1"}
TARGET: Final = {"workload_type": "Deployment", "workload_name": "w", "container_name": "c"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        (job("ship", service_list=[{**SERVICE, "value_merge_strategy": "merge"}]), 400,
         "inputs[0].parameters.service_list[0].value_merge_strategy: Input should be '', 'reuse-values' or 'override'"),
        (job("ship", service_list=[{"service_module": "x"}]), 400,
         "failed to update jobspec for job: ship, err: parameters.service_list[0].service_name: is required"),
        (job("ship", env_name="moon"), 6160, "environment moon not found"),
        (job("ship"), 6160, "deploy service is empty for env dev"),
        (job("ship", service_list=[{"service_name": "a", "service_module": "x"}]), 6160, "image of a/x is empty"),
        (job("image", target_list=[{**TARGET, "workload_type": "Pod"}]), 400,
         "failed to update jobspec for job: image, err: workload type: Pod not supported"),
        ({"parameters": [{"name": "none", "value": "x"}]}, 400, "param none not found in workflow"),
        ({"parameters": [{"name": "choice", "value": "z"}]}, 400, "invalid choice value z for param choice"),
        ({"parameters": [{"name": "some", "value": "a,z"}]}, 400, "invalid choice value z for param some"),
        ({"parameters": [{"name": "code", "type": "repo", "repo": {"codehost_name": "nowhere"}}]}, 400,
         "failed to find code host with name:nowhere"),
        ({"parameters": [{"name": "code", "type": "repo"}]}, 400, "failed to find code host with name:"),
        ({"parameters": [{"name": "file", "value": "x"}]}, 400, "param file is a file, which cannot be given here"),
        ({"parameters": [{"value": "x"}]}, 400, "parameters[0].name: is required"),
        ({"notify_inputs": [{"type": "wechat"}]}, 400, "notify_inputs[0].id: is required"),
        ({"notify_inputs": [{"id": 0}]}, 400, "notify_inputs[0].type: is required"),
        ({"notify_inputs": [{"id": 0, "type": "wechat"}]}, 400,
         "notify_inputs[0].wechat_notification_config: is required"),
        ({"notify_inputs": [{"id": 0, "type": "feishu_person", "lark_person_notification_config":
          {"users": [{"id": "x", "id_type": "mail"}]}}]}, 400,
         "notify_inputs[0].lark_person_notification_config.users[0].id_type: Input should be '', 'user_id' or "
         "'open_id'"),
        ({"inputs": []}, 6160, "no stage found in workflow task: w,taskID: 1"),
        ({"inputs": [{"job_name": "say"}] * 1001}, 400,
         "inputs: List should have at most 1000 items after validation, not 1001"),
        (job("say", kv=[{"key": "A"}] * 1001), 400,
         "inputs[0].parameters.kv: List should have at most 1000 items after validation, not 1001"),
        ({"inputs": [None]}, 400, "inputs[0]: must be an object"),
        ({"inputs": [{"job_type": "freestyle"}]}, 400, "inputs[0].job_name: is required"),
    ],
)  # fmt: skip
async def test_what_is_refused(server: Site, fields: dict[str, Any], code: int, said: str) -> None:
    reply = await start(server, **fields)
    found = reply.json()
    assert (reply.status_code, found["code"]) == (400, code)
    assert re.sub(r"taskID: \d+", "taskID: 1", found["description"]) == said


@pytest.mark.anyio
@pytest.mark.parametrize("number", ["1" + "0" * 30, "1" + "0" * 400, "1e308", "-9223372036854775809", "0.1"])
@pytest.mark.parametrize(
    "body",
    [
        '"inputs": [{"job_name": "say", "parameters": {"more": N}}]',
        '"inputs": [{"job_name": "say", "parameters": {"repo_info": [{"codehost_name": "x", "pr": N}]}}]',
        '"inputs": [{"job_name": "say"}], "parameters": [{"name": "text", "value": "x", "more": N}]',
        '"inputs": [{"job_name": "say"}], "notify_inputs": [{"id": N, "type": "wechat"}]',
        '"inputs": [{"job_name": "say"}], "notify_inputs": [{"id": 1, "type": "msteams", "msteams_notification_config":'
        ' {"more": N}}]',
        '"inputs": [{"job_name": "say"}], "more": N',
    ],
)
async def test_numbers_beyond_all_sense(server: Site, body: str, number: str) -> None:
    """Taken where nobody looks at them, or refused; never a failure of the server."""
    text = f'{{"workflow_key": "w", "project_key": "{PROJECT}", {body.replace("N", number)}}}'
    reply = await server.post(TASK, content=text)
    assert reply.status_code in (200, 400), reply.text


@pytest.mark.anyio
async def test_all_that_is_accepted_is_kept_and_shown(server: Site) -> None:
    """Values of all types of variables, recipients, inputs of jobs that this server cannot run."""
    reply = await start(
        server,
        inputs=[
            {"job_name": "ship", "parameters": {"env_name": "qa", "service_list": [SERVICE]}},
            {"job_name": "image", "parameters": {"target_list": [{**TARGET, "image_name": "r/c:1"}]}},
            {"job_name": "ask", "job_type": "approval", "parameters": {"anything": [1]}},
            {"job_name": "nobody"},
        ],
        parameters=[
            {"name": "text", "type": "string", "value": "line\nline"},
            {"name": "choice", "type": "choice", "value": "b"},
            {"name": "some", "type": "multi-select", "value": "c,a"},
            {"name": "kept", "type": "string", "value": "no"},
            {"name": "password", "type": "string", "value": "very-secret"},
        ],
        notify_inputs=[
            {"id": 0, "type": "wechat", "wechat_notification_config": {"at_users": ["ann"], "is_at_all": None}},
            {"id": 1, "type": "mail", "mail_notification_config": {"user_ids": ["u"]}},
            {"id": 9, "type": "mail"},
        ],
    )
    found = reply.json()
    assert reply.status_code == 200, found
    assert found["warnings"] == [
        "param kept is fixed in the workflow, the given value is not used",
        "job nobody not found in workflow, ignored",
        "notify_inputs[1]: notification 1 is of type msteams, not mail, ignored",
        "notify_inputs[2]: the workflow has no notification 9, ignored",
        "job ship: a job of type zadig-deploy needs a Kubernetes cluster, which this server does not have",
        "job image: a job of type custom-deploy needs a Kubernetes cluster, which this server does not have",
    ]
    detail = await server.task("w", found["task_id"])
    assert {param["name"]: param["value"] for param in detail["params"]} == {
        "text": "line\nline",
        "string": "a",
        "choice": "b",
        "some": "c,a",
        "code": "",
        "file": "",
        "kept": "a",
        "password": "********",
    }
    jobs = {job["origin_name"]: job for stage in detail["stages"] for job in stage["jobs"]}
    assert jobs["ship"]["spec"]["service_and_images"] == [
        {"service_name": "a", "service_module": "x", "image": "r/x:1"}
    ]
    assert (jobs["ship"]["spec"]["env"], jobs["image"]["spec"]["target"]) == ("qa", "Deployment/w/c")
    assert detail["warnings"][: len(found["warnings"])] == found["warnings"]
    own = (await server.get(f"/api/v1/tasks/w/{found['task_id']}")).json()
    assert own["notifications"] == [
        {"type": "wechat", "enabled": True, "events": ["failed"], "recipients": {"at_users": ["ann"]}},
        {"type": "msteams", "enabled": False, "events": [], "recipients": {}},
    ]
    assert "secret-address" not in str(own)
    assert "very-secret" not in str(own) + str(detail)


@pytest.mark.anyio
async def test_jobs_that_this_server_cannot_run_fail_when_they_are_reached(server: Site) -> None:
    reply = await start(server, query={"strict": "true"}, **job("ship", service_list=[SERVICE]))
    assert reply.status_code == 200, reply.text
    detail = await server.done("w", reply.json()["task_id"])
    [ship] = detail["stages"][0]["jobs"]
    assert (detail["status"], ship["status"]) == ("failed", "failed")
    assert ship["error"] == "a job of type zadig-deploy needs a Kubernetes cluster, which this server does not have"


@pytest.mark.anyio
async def test_null_is_absent_in_a_repository_too(server: Site) -> None:
    host = await server.world.add("codehost", "hub", {"name": "hub", "type": "other"}, system=True)
    repo = {"codehost_id": host.id, "repo_namespace": "team", "repo_name": "app", "branch": "main"}
    await server.create("source", params=[{"name": "code", "type": "repo", "repo": repo}])
    given = {"codehost_name": "hub", "repo_namespace": "team", "repo_name": "app", "branch": None, "prs": [7]}
    reply = await start(server, workflow_key="source", parameters=[{"name": "code", "type": "repo", "repo": given}])
    assert reply.status_code == 200, reply.text
    (param,) = (await server.task("source", reply.json()["task_id"]))["params"]
    assert (param["repo"]["branch"], param["repo"]["prs"]) == ("main", [7])


@pytest.mark.anyio
async def test_strict_starts_take_known_names_only(server: Site) -> None:
    kept = [{"name": "kept", "value": "x"}]
    for fields, said, done in (
        ({"inputs": [{"job_name": "say"}, {"job_name": "nobody"}]}, "job nobody not found in workflow", ", ignored"),
        ({"parameters": kept}, "param kept is fixed in the workflow", ", the given value is not used"),
        (job("say", kv=[{"key": "NONE", "value": "x"}]), "job say: there is no variable NONE", ""),
    ):
        reply = await start(server, query={"strict": "true"}, **fields)
        assert (reply.status_code, reply.json()["code"], reply.json()["description"]) == (400, 6160, said)
        accepted = await start(server, query={"strict": "false"}, **fields)
        assert said + done in accepted.json()["warnings"]


@pytest.mark.anyio
async def test_stages_that_are_approved_elsewhere(server: Site) -> None:
    """Lark's approvers are stored and shown as they are documented; this server cannot ask them yet."""
    lark = {"timeout": 5, "approve_users": [{"id": "ou_1", "name": "ann"}]}
    stage = {**definition("lark")["stages"][0], "approval": {"enabled": True, "type": "lark", "lark_approval": lark}}
    await server.create("lark", stages=[stage])
    path, query = "/openapi/workflows/custom/lark/detail", {"projectKey": PROJECT}
    shown = (await server.get(path, params=query)).json()["stages"][0]["approval"]
    assert (shown["type"], shown["lark_approval"]) == ("lark", {**lark, "Timeout": 5})
    reply = await start(server, workflow_key="lark")
    assert (reply.json()["code"], reply.json()["description"]) == (6160, "lark approval is not configured")


@pytest.mark.anyio
async def test_approvers_nobody_knows_refuse_the_start(server: Site) -> None:
    """The definition is stored; a task that waits for people who cannot vote would wait for nothing."""
    masked = {"user_name": "su", "user_id": "62xxxxxx"}
    for key, users, needed, status in (("ok", [masked, {"user_name": "ann"}], 1, 200), ("lost", [masked], 1, 400)):
        ask = {
            "name": "ask",
            "type": "approval",
            "spec": {"native_approval": {"approve_users": users, "needed_approvers": needed}},
        }
        await server.create(key, stages=[{"name": "all", "jobs": [ask]}])
        reply = await start(server, workflow_key=key, inputs=[{"job_name": "ask"}])
        assert reply.status_code == status, reply.text
        if status == 200:
            assert reply.json()["warnings"] == ["approver su is not a user of this server"]
        else:
            found = reply.json()
            assert (found["code"], found["description"]) == (6160, "approver su is not a user of this server")
