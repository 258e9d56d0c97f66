"""Build a service from a branch, and again if it is stopped: the routes of the oldest page (Zadig 1.6), and no others.

usage: CI_URL=... CI_TOKEN=... python edition_a.py COMMIT
COMMIT: what the branch of the repository stands at; this edition finds tasks by nothing else.
"""

import json
import os
import sys
import time
from urllib.request import Request, urlopen

ROOT = os.environ["CI_URL"] + "/api/directory/workflowTask"
WORKFLOW, REPOS = "autoproject-workflow-dev", ("voting-app", "dyliu", "hello-gerrit2")


def call(method, path, body=None):
    head = {"Authorization": f"X-API-KEY {os.environ['CI_TOKEN']}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(ROOT + path, data, head, method=method), timeout=60) as reply:
        return json.load(reply)


def wait(commit, number, *statuses):
    """The status of a task, once it is one of these."""
    while True:
        found = {task["task_id"]: task["status"] for task in call("GET", f"?commitId={commit}")}
        if found.get(number) in statuses:
            return found[number]
        time.sleep(0.2)


commit = sys.argv[1]
repos = [{"repo_name": name, "branch": "master", "pr": 0} for name in REPOS]
body = {"workflow_name": WORKFLOW, "env_name": "dev", "targets": [{"name": "redis3", "build": {"repos": repos}}]}
number = call("POST", "/create", body)["task_id"]
print(f"{WORKFLOW}:{number}", wait(commit, number, "running"))
print("cancel", call("POST", f"/id/{number}/pipelines/{WORKFLOW}/cancel"), wait(commit, number, "cancelled"))
print("restart", call("POST", f"/id/{number}/pipelines/{WORKFLOW}/restart"), wait(commit, number, "running"))
print("Waiting for somebody to approve it", flush=True)  # this edition cannot
print("end", wait(commit, number, "passed", "failed", "timeout", "cancelled"))
