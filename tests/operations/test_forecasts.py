"""When a waiting task may start."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cador.operations.forecasts import Forecast, Line, forecast
from cador.ports.outlook import RunningTask

NOW = 1000.0
TENS = (10.0,) * 20


def running(number: int, workflow: str = "w", *, since: float = 990.0, holds: bool = True) -> RunningTask:
    return RunningTask(number, workflow, number, since, holds)


def line(*tasks: RunningTask, **fields: Any) -> Line:
    values: dict[str, Any] = {"workflow": "w", "slots": 5, "ahead": (), "limits": {"w": 1}, "times": {"w": TENS}}
    return Line(running=tasks, **(values | fields))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param(line(), Forecast(1000.0, "rough", 0), id="nothing is before it"),
        pytest.param(line(running(1, since=996.0)), Forecast(1006.0, "good", 20), id="the one before it ends"),
        pytest.param(line(running(1, since=996.0), ahead=("w", "w")), Forecast(1026.0, "good", 20), id="two go first"),
        pytest.param(line(running(1, since=900.0)), Forecast(1000.0, "rough", 20), id="it is late already"),
        pytest.param(line(running(1, since=996.0), times={}), None, id="nothing is known of it"),
        pytest.param(line(running(1, holds=False)), None, id="it waits for people"),
        pytest.param(line(limits={"w": 0}), None, id="it never may"),
        pytest.param(
            line(running(1, since=996.0), running(2, since=999.0), limits={"w": 2}),
            Forecast(1006.0, "good", 20),
            id="the first of two ends",
        ),
        pytest.param(
            line(running(1, since=999.0), times={"w": (10.0,) * 4}), Forecast(1009.0, "rough", 4), id="few are known"
        ),
        pytest.param(
            line(running(1, since=999.0), times={"w": (1.0, 10.0) * 10}), Forecast(1004.5, "rough", 20), id="unsteady"
        ),
        pytest.param(
            line(running(1, since=999.0), exact=False), Forecast(1009.0, "rough", 20), id="shares have a say"
        ),
        pytest.param(
            line(running(1, "a", since=999.0), slots=1, limits={}, times={"a": TENS}),
            Forecast(1009.0, "good", 20),
            id="the only slot is another workflow's",
        ),
        pytest.param(
            # The first in the queue is held back by its own limit and lets others by.
            line(
                running(1, "a", since=999.0),
                running(2, "b", since=995.0),
                slots=2,
                ahead=("a",),
                limits={"a": 1},
                times={"a": TENS, "b": TENS},
            ),
            Forecast(1005.0, "good", 20),
            id="who is held back holds nobody back",
        ),
        pytest.param(
            line(
                running(1, since=999.0),
                running(2, "a", since=998.0),
                slots=2,
                slot_only=True,
                times={"w": TENS, "a": TENS},
            ),
            Forecast(1008.0, "good", 20),
            id="one that goes on needs a slot only",
        ),
        pytest.param(
            line(running(1, "a"), slots=1, limits={"a": 1, "w": -1}, times={}), None, id="nothing is known of others"
        ),
    ],
)  # fmt: skip
def test_when_it_may_start(told: Line, expected: Forecast | None) -> None:
    assert forecast(told, NOW) == expected


WORKFLOWS = st.sampled_from("abc")


@given(
    tasks=st.lists(st.tuples(WORKFLOWS, st.floats(900, 1000), st.booleans()), max_size=6),
    ahead=st.lists(WORKFLOWS, max_size=6),
    limits=st.dictionaries(WORKFLOWS, st.integers(-1, 3)),
    times=st.dictionaries(WORKFLOWS, st.lists(st.floats(0.1, 100), max_size=20)),
    slots=st.integers(1, 8),
)
def test_it_always_comes_to_an_end_and_never_before_now(
    tasks: list[tuple[str, float, bool]],
    ahead: list[str],
    limits: dict[str, int],
    times: dict[str, list[float]],
    slots: int,
) -> None:
    before = [RunningTask(n, key, n, since, holds) for n, (key, since, holds) in enumerate(tasks)]
    told = Line("a", slots, before, ahead, limits, times)
    found = forecast(told, NOW)
    if found is None:
        return
    assert NOW <= found.at < math.inf
    # Whoever has fewer before it does not start later.
    sooner = forecast(Line("a", slots, before, ahead[:-1], limits, times), NOW)
    if len(set(ahead) | {key for key, _, _ in tasks}) <= 1:
        assert sooner is not None
        assert sooner.at <= found.at
