"""Run a workflow with global variables, approve it, read its logs while they grow: the page of Zadig 4.2.

usage: CI_URL=... CI_TOKEN=... python edition_e.py
"""

import json
import os
import time
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

KEY, PROJECT, OPEN = "test-openapi", "autoproject", "/openapi/workflows"


def ask(method, path, body=None, **query):
    head = {"Authorization": f"Bearer {os.environ['CI_TOKEN']}", "Accept-Language": "en"}
    data = None if body is None else json.dumps(body).encode()
    url = f"{os.environ['CI_URL']}{path}?{urlencode(query)}"
    return urlopen(Request(url, data, head, method=method), timeout=60)


def call(method, path, body=None, **query):
    with ask(method, path, body, **query) as reply:
        return json.load(reply)


stages = call("GET", f"{OPEN}/custom/{KEY}/detail", projectKey=PROJECT)["stages"]
print("stages", [(stage["name"], [job["type"] for job in stage["jobs"]]) for stage in stages])
kv = [{"key": "IssueID", "value": "ZAD-10126"}, {"key": "TargetStatus", "value": "ToBeReleased"}]
inputs = [{"job_name": "jira-issue-update", "job_type": "freestyle", "parameters": {"kv": kv}}]
values = [{"name": "test", "type": "string", "value": "zadig"}, {"name": "abc", "type": "choice", "value": "123"}]
body = {"project_key": PROJECT, "workflow_key": KEY, "parameters": values, "inputs": inputs}
number = call("POST", f"{OPEN}/custom/task", body)["task_id"]
name = {"taskId": number, "workflowKey": KEY}
while call("GET", f"{OPEN}/custom/task", **name)["status"] == "created":
    time.sleep(0.2)
vote = {"task_id": number, "workflow_key": KEY, "stage_name": "deploy", "approve": True, "comment": "LGTM"}
print("approve", call("POST", f"{OPEN}/custom/task/approve", vote))
task = call("GET", f"{OPEN}/custom/task", **name)
job = next(job["name"] for stage in task["stages"] for job in stage["jobs"])
with ask("GET", f"/openapi/logs/sse/v4/workflow/{KEY}/{number}/{quote(job)}/100") as live:
    for line in live:
        if line.startswith(b"data:"):
            print("live", line.removeprefix(b"data:").decode().strip())
while (task := call("GET", f"{OPEN}/custom/task", **name))["status"] in ("created", "running"):
    time.sleep(0.2)
print("log", ask("GET", f"/openapi/logs/log/v4/workflow/{KEY}/{number}/{quote(job)}").read().decode().splitlines())
print(task["status"], {one["name"]: one["value"] for one in task["params"]})
