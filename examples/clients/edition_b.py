"""Run a workflow with inputs, approve it, show what it did: the routes of Zadig 1.15's page.

usage: CI_URL=... CI_TOKEN=... python edition_b.py
"""

import json
import os
import time
from urllib.parse import urlencode
from urllib.request import Request, urlopen

WORKFLOW, TASK = "test-openapi", "/openapi/workflows/custom/task"


def call(method, path, body=None, **query):
    head = {"Authorization": f"Bearer {os.environ['CI_TOKEN']}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    url = f"{os.environ['CI_URL']}{path}?{urlencode(query)}"
    with urlopen(Request(url, data, head, method=method), timeout=60) as reply:
        return json.load(reply)


repo = {"codehost_name": "koderover", "repo_namespace": "kr-poc", "repo_name": "voting-app", "branch": "master"}
values = [{"key": "username", "value": "admin"}, {"key": "password", "value": "zadig"}]
module = {"service_name": "redis3", "service_module": "redis3", "repo_info": [repo], "inputs": values}
kv = [{"key": "IssueID", "value": "ZAD-10126"}, {"key": "FromStatus", "value": "Testing"}]
inputs = [
    {"job_name": "build-myapps", "job_type": "zadig-build", "parameters": {"service_list": [module]}},
    {"job_name": "jira-issue-update", "job_type": "freestyle", "parameters": {"kv": kv}},
]
body = {"project_name": "autoproject", "workflow_name": WORKFLOW, "inputs": inputs}
started = call("POST", TASK, body)
print("started", started["project_name"], started["workflow_name"], started["task_id"])
name = {"task_id": started["task_id"], "workflow_name": started["workflow_name"]}
approved = False
while (task := call("GET", TASK, **name))["status"] in ("created", "running"):
    before, stage = [one["status"] for one in task["stages"][:-1]], task["stages"][-1]
    if set(before) == {"passed"} and stage["approval"]["reject_or_approve"] == "" and not approved:
        print(stage["name"], call("POST", f"{TASK}/approve", **name, stage_name=stage["name"], approve="true"))
        approved = True
    time.sleep(0.2)
for job in (job for stage in task["stages"] for job in stage["jobs"]):
    commits = [repo["commit_id"] for repo in job["spec"]["repos"]]
    print(job["name"], job["type"], job["status"], job["spec"]["image"], *commits)
print("by", task["task_creator"], task["status"], "approved by", task["stages"][-1]["approval"]["approve_users"])
