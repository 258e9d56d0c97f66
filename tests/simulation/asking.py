"""The system that servers ask when a scan has passed: what they do for a job after its processes have ended."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cador.jobs.steps.sonar import ANSWER, Answer, answer_text
from cador.ports.actions import Action, ActionFailed, ActionRun
from cador.ports.executor import Unreachable
from simulation.dice import dice_of

if TYPE_CHECKING:
    from simulation.installation import Simulation
    from simulation.server import Server


class Asked:
    """``answered``: how often, by the key of the execution. ``going``: who waits for an answer about which."""

    def __init__(self, sim: "Simulation") -> None:
        self._sim = sim
        self._dice = dice_of(sim.seed, "answers")
        self.answered: Counter[str] = Counter()
        self.going: Counter[tuple[Server, str]] = Counter()

    def by(self, server: "Server") -> Action:
        """The action ``sonar`` of *server*."""

        async def ask(run: ActionRun, arguments: Mapping[str, Any]) -> None:
            sim, end = self._sim, self._sim.runs[run.key].end(self._sim.true_time())
            sim.note(f"{server.process.name} asks after {run.key}")
            sim.figures["asked"] += 1
            if end is None or end.exit_code != 0 or end.stopped:
                sim.fail(f"{run.key} is asked after, and ended as {end}")
            self.going[server, run.key] += 1
            if self.going[server, run.key] > 1:
                sim.fail(f"{server.process.name} asks after {run.key} twice at once")
            try:
                await sim.way.there(server.process, "ask", run.key)
                await asyncio.sleep(self._dice.choice((0.0, 0.1, 2.0, 90.0)) * self._dice.random())
                await sim.way.back(server.process, "ask")
            except (OSError, Unreachable) as error:
                raise ActionFailed(str(error)) from error
            finally:
                self.going[server, run.key] -= 1
            self.answered[run.key] += 1
            run.leave(ANSWER, answer_text(Answer(gate=self._dice.choice(("OK", "OK", "OK", "ERROR")))))

        return ask
