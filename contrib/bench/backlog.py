"""Many messages that wait, and leave when they may."""
import time

from contrib.bench.scenarios import Figures, Server, arrived, source
from contrib.bench.servers import Postfix, Sink, cpu_of, memory_of
from tests.lib.wait import until

POSTFIX_SHARE = 5  # Postfix gets a message for each of ours, else it alone takes ten minutes
LOAD_WAIT = 600.0  # seconds until the last one waits


def backlog(server: Server, sink: Sink, count: int) -> Figures:
    """Mail that is held comes in, and then leaves: messages a second, processor time for each, and QMGR's memory."""
    if isinstance(server, Postfix):
        count //= POSTFIX_SHARE
    server.park()
    began = time.monotonic()
    source(server, count, 1024, 20)
    accepted = time.monotonic()
    until(lambda: server.deferred() >= count, LOAD_WAIT, "all waits", pause=0.5)
    pid = server.queue_manager()
    waiting = most = memory_of([pid])
    cpu, cpu_of_one = server.cpu(), {pid: cpu_of(pid)}
    before, released = sink.count, time.monotonic()
    server.release()
    while sink.count < before + count and time.monotonic() < released + LOAD_WAIT:
        memory = memory_of([pid])
        pid = pid if memory else server.queue_manager()  # Postfix's is another after a reload
        most = max(most, memory)
        time.sleep(0.2)
    arrived(sink, before + count)
    drained = time.monotonic()
    used = sum(server.cpu().values()) - sum(cpu.values())
    used_by_one = cpu_of(pid) - cpu_of_one.get(pid, 0.0)
    return {"accept/s": count / (accepted - began), "drain/s": count / (drained - released),
            "cpu ms": used * 1000 / count, "QMGR cpu ms": used_by_one * 1000 / count,
            "QMGR MB, waiting": waiting, "QMGR MB at most": most}
