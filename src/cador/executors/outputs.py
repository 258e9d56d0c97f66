"""Reading the values a job left in its results folder."""

from collections.abc import Iterable
from typing import Final

from cador.executors.driver import OUTPUT_BYTES
from cador.executors.job_folder import Folders

TOTAL_BYTES: Final = 1 << 20
_NEWLINES: Final = b"\r\n"


def read_outputs(folders: Folders, key: str, names: Iterable[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Values of the declared *names*, and a line for each that cannot be used. A missing file is no value.

    At most 64 KiB each and 1 MiB together. UTF-8; what is not becomes U+FFFD. Newlines at both ends are cut off.
    """
    values: dict[str, str] = {}
    problems: list[str] = []
    total = 0
    for name in names:
        if "/" in name or name in ("", ".", ".."):
            problems.append(f"output {name}: not a usable name")
            continue
        try:
            content = folders.content(key, f"outputs/{name}", OUTPUT_BYTES + 1024)
        except PermissionError:
            problems.append(f"output {name}: the job left it so that nobody may read it")
            continue
        if content is None:
            continue
        value = content[0].strip(_NEWLINES)
        if len(value) > OUTPUT_BYTES:
            problems.append(f"output {name}: longer than {OUTPUT_BYTES // 1024} KiB")
        elif total + len(value) > TOTAL_BYTES:
            problems.append(f"output {name}: all outputs together are longer than {TOTAL_BYTES // 1024} KiB")
        else:
            total += len(value)
            values[name] = value.decode("utf-8", "replace")
    return values, tuple(problems)
