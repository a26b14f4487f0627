"""kill -9 of one process or of all of them, at random moments under load."""
import os
import signal
import time
from collections.abc import Callable
from contextlib import closing

from tests.lib.wait import until
from tests.soak.rig import Figures, Rig

VICTIMS = ("smtps", "qmgr", "smar", "smtpc", "mcp", "all")


def run(rounds: int, seed: int, tick: Callable[[], None]) -> Figures:
    """The kill loop: `rounds` kills, a balance at the end."""
    with closing(Rig("kill -9", seed)) as rig:
        rig.begin()
        for _ in range(rounds):
            time.sleep(rig.luck.uniform(0.0, 0.6))
            kill(rig, rig.luck.choice(VICTIMS))
            rig.figures.rounds += 1
            if rig.luck.random() < 0.3:
                rig.more(5)
            tick()
        rig.more(20)
        return rig.settle()


def kill(rig: Rig, name: str) -> None:
    """Kill one process and see MCP start it again, or all and start them."""
    instance = rig.instance
    if name == "all":
        instance.kill_all()
        rig.start()
        return
    victims = [pid for pid, program in instance.running().items() if program == name]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    if name == "mcp":
        until(lambda: not instance.running(), 60, "the daemons end with MCP")
        rig.start()
        return
    began = time.monotonic()
    until(lambda: [pid for pid, program in instance.running().items() if program == name and pid not in victims],
          60, f"MCP starts {name} again")
    rig.figures.restart_max = max(rig.figures.restart_max, time.monotonic() - began)
    rig.read_log()
