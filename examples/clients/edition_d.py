"""Make a workflow and a view of it, run it, stop it, run it again, delete all: the page between Zadig 1.18 and 2.

usage: CI_URL=... CI_TOKEN=... python edition_d.py
"""

import json
import os
import time
from urllib.parse import urlencode
from urllib.request import Request, urlopen

KEY, PROJECT, OPEN = "workflow-of-a-client", "autoproject", "/openapi/workflows"


def call(method, path, body=None, **query):
    head = {"Authorization": f"Bearer {os.environ['CI_TOKEN']}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    url = f"{os.environ['CI_URL']}{path}?{urlencode(query)}"
    with urlopen(Request(url, data, head, method=method), timeout=60) as reply:
        return json.load(reply)


def wait(number, *statuses):
    while (status := call("GET", f"{OPEN}/product/{KEY}/task/{number}", projectKey=PROJECT)["status"]) not in statuses:
        time.sleep(0.2)
    return status


shell = {"name": "shell", "type": "shell", "spec": {"script": "#!/bin/bash\nset -e\necho hello\nsleep $key1"}}
values = [{"key": "key1", "value": "600", "type": "string", "is_credential": False}]
job = {"name": "common", "type": "freestyle", "spec": {"properties": {"timeout": 60, "envs": values}, "steps": [shell]}}
stages = [{"name": "Distribute", "parallel": True, "jobs": [job]}]
definition = {"name": KEY, "display_name": KEY, "project": PROJECT, "concurrency_limit": 5, "stages": stages}
print("create", call("POST", "/api/aslan/workflow/v4", definition))
view = {"workflow_key": KEY, "workflow_name": KEY, "workflow_type": "custom"}
print("view", call("POST", f"{OPEN}/view", {"project_key": PROJECT, "name": "mine", "workflow_list": [view]}))
print("listed", [one["workflow_key"] for one in call("GET", OPEN, projectKey=PROJECT, viewName="mine")["workflows"]])
run = {"project_key": PROJECT, "workflow_key": KEY, "inputs": [{"job_name": "common", "job_type": "freestyle"}]}
number = call("POST", f"{OPEN}/custom/task", run)["task_id"]
print("task", number, wait(number, "running"))
print("cancel", call("DELETE", f"{OPEN}/custom/task", task_id=number, workflowKey=KEY), wait(number, "cancelled"))
run["inputs"][0]["parameters"] = {"kv": [{"key": "key1", "value": "0"}]}
number = call("POST", f"{OPEN}/custom/task", run)["task_id"]
print("task", number, wait(number, "passed", "failed"))
page = call("GET", f"{OPEN}/custom/{KEY}/tasks", projectKey=PROJECT, pageNum=1, pageSize=50)
print(page["total"], "tasks", [(one["task_id"], one["status"]) for one in page["workflow_tasks"]])
print("views", [view["name"] for view in call("GET", f"{OPEN}/view", projectKey=PROJECT)])
print("delete", call("DELETE", f"{OPEN}/view/mine", projectKey=PROJECT))
print("delete", call("DELETE", f"{OPEN}/custom", workflowKey=KEY, projectKey=PROJECT))
