"""Fetch the packages that the build jobs of this task left: ``python3 fetch.py FOLDER``.

Asks the server's API as any program would: ``GET /api/v1/tasks/WORKFLOW/NUMBER/artifacts``.
"""

import json
import os
import sys
from pathlib import Path
from urllib.parse import quote
from urllib.request import Request, urlopen


def get(url: str) -> bytes:
    request = Request(url, headers={"Authorization": f"Bearer {os.environ['SHOP_READ_TOKEN']}"})
    with urlopen(request, timeout=60) as response:
        return response.read()


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    server = os.environ["TASK_URL"].partition("/v1/projects/")[0]
    base = f"{server}/api/v1/tasks/{os.environ['WORKFLOW']}/{os.environ['TASK_ID']}/artifacts"
    paths = [artifact["path"] for artifact in json.loads(get(base))["artifacts"]]
    for package in (os.environ["API_PACKAGE"], os.environ["WEB_PACKAGE"]):
        found = [path for path in paths if path.rpartition("/")[2] == package]
        if len(found) != 1:
            sys.exit(f"{package} is not among the artifacts: {', '.join(paths)}")
        data = get(f"{base}/{quote(found[0])}")
        (folder / package).write_bytes(data)
        print(f"{package}: {len(data)} bytes")


if __name__ == "__main__":
    main()
