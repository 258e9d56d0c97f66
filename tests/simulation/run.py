"""Run seeds: ``python tests/simulation/run.py --seeds 200`` or ``--seed 17 --trace 400``; ``--shrink`` leaves out all
faults and wishes without which a seed fails as well."""

import argparse
import gc
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

from simulation.installation import TAIL, Result, Simulation

MOST_FAILED = 20
"""After so many a sweep is given up."""


def play(seed: int, without: Iterable[str] = (), trace: int = TAIL) -> Result:
    return Simulation(seed, without=frozenset(without), trace=trace).run()


def command(seed: int, without: Iterable[str] = ()) -> str:
    left_out = f" --without {','.join(sorted(without))}" if without else ""
    return f".venv/bin/python tests/simulation/run.py --seed {seed}{left_out} --trace 400"


def told(result: Result, without: Iterable[str] = ()) -> str:
    """A failed run, for people."""
    lines = [f"seed {result.seed}: {result.violation}", *(f"    {line}" for line in result.trace)]
    lines += [f"  f{number}: {fault}" for number, fault in enumerate(result.faults) if f"f{number}" not in without]
    return "\n".join([*lines, f"replay: {command(result.seed, without)}"])


def shrink(seed: int, without: Iterable[str] = (), say: Callable[[str], None] = lambda text: None) -> frozenset[str]:
    """What can be left out of a failing seed so that it still fails."""
    left_out = frozenset(without)
    first = play(seed, left_out)
    parts = [f"f{n}" for n in range(len(first.faults))] + [f"a{n}" for n in range(len(first.actions))]
    size = max(1, len(parts) // 2)
    while size:
        for start in range(0, len(parts), size):
            more = left_out | frozenset(parts[start : start + size])
            if more != left_out and play(seed, more).violation:
                left_out = more
                say(f"  fails without {len(left_out)} of {len(parts)} parts")
        size //= 2
    return left_out


def sweep(seeds: Sequence[int], jobs: int, say: Callable[[str], None], most_failed: int = MOST_FAILED) -> list[Result]:
    """Play *seeds*, until *most_failed* have failed; returns those that did, and says how it goes."""
    began, cpu = time.monotonic(), time.process_time()
    figures: Counter[str] = Counter()
    failed: list[Result] = []
    number = 0
    count = len(seeds)
    with ProcessPoolExecutor(jobs, initializer=_ready) if jobs > 1 else _Here() as pool:
        for number, result in enumerate(pool.map(play, seeds, chunksize=10), start=1):
            figures.update(result.figures)
            if result.violation:
                failed.append(result)
                say(told(result))
                if len(failed) == most_failed:
                    say(f"given up after {number} seeds")
                    break
            if number % 500 == 0:
                say(f"{number} seeds, {len(failed)} failed, {time.monotonic() - began:.0f} s")
    took = time.monotonic() - began
    cpu_s = time.process_time() - cpu
    if number < count and len(failed) < most_failed:
        raise RuntimeError(f"only {number} of {count} seeds were played")
    say(f"{number} seeds: {len(failed)} failed; {took:.0f} s, {cpu_s:.0f} s of CPU here")
    for name, value in sorted(figures.items()):
        say(f"  {name:28} {value:>12,}")
    return failed


class _Here:
    """Like a pool, in this process."""

    def __enter__(self) -> "_Here":
        _ready()
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def map(self, fn: Callable[[int], Result], seeds: Iterable[int], chunksize: int = 1) -> Iterable[Result]:
        return (fn(seed) for seed in seeds)  # a generator tells a StopIteration of fn, map takes it for its own end


def _ready() -> None:
    """Keep what is there for good out of the collections between runs."""
    gc.collect()
    gc.freeze()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="this one alone, with its trace")
    parser.add_argument("--also", type=int, nargs="*", default=[], help="these before all others")
    parser.add_argument("--most-failed", type=int, default=MOST_FAILED, help="given up after so many")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--trace", type=int, default=TAIL, help="lines kept of a run")
    parser.add_argument("--without", default="", help="parts left out: f0,f3,a7")
    parser.add_argument("--shrink", action="store_true")
    parser.add_argument("--quiet", action="store_true", help="only whether a seed failed, and the digest")
    given = parser.parse_args()
    if given.seed is None:
        seeds = [*given.also, *range(given.first, given.first + given.seeds)]
        return 1 if sweep(seeds, given.jobs, lambda text: print(text, flush=True), given.most_failed) else 0
    without = frozenset(filter(None, given.without.split(",")))
    if given.shrink:
        without = shrink(given.seed, without, print)
    result = play(given.seed, without, given.trace)
    if given.quiet:
        print(result.digest, result.violation)
    else:
        print(told(result, without) if result.violation else "\n".join(result.trace))
        print(f"digest {result.digest}")
    return 1 if result.violation else 0


if __name__ == "__main__":
    sys.exit(main())
