"""Every type of map in the real process: its lookups, changes, reloading and failures."""
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from meta1g.maps.m_socket import netstring
from meta1g.proto.msg_ar import Resolve
from meta1g.shim.mapfile import write_map
from tests.lib.mapserver import Server
from tests.lib.nameserver import Nameserver
from tests.lib.peers import needs
from tests.lib.redisserver import Server as Redis
from tests.lib.smarproc import Client, Smar

pytestmark = [pytest.mark.system, pytest.mark.peer]

MAPS = """
  map h {{ type = hash; file = "{folder}/h.db"; }}
  map c {{ type = cdb; file = "{folder}/c.cdb"; }}
  map l {{ type = lmdb; file = "{folder}/l.lmdb"; }}
  map q {{ type = sqlite; file = "{folder}/q.sqlite"; }}
  map x {{ type = regex; file = "{folder}/x"; }}
  map s {{ type = socket; mapname = s; address = 127.0.0.1; port = {port}; }}
  map r {{ type = redis; path = "{folder}/redis.sock"; mapname = "mail:aliases"; }}
  map all {{ type = sequence; maps = {{ h, c, l, q, x, s, r }}; }}
  aliases {{ name = all; }}
"""
FILES = {"hash": "h.db", "cdb": "c.cdb", "lmdb": "l.lmdb", "sqlite": "q.sqlite"}


class Bench:
    def __init__(self, folder: Path, ns: Nameserver, redis: Redis) -> None:
        self.folder, self.redis = folder, redis
        self.server = Server(lambda data: netstring(b"OK in-socket" if data.endswith(b" socket,") else b"NOTFOUND "))
        for kind in FILES:
            self.write(kind, b"in-" + kind.encode())
        (folder / "x").write_text("/^re[gex]+$/e in-regex\n")
        redis.client.hset("mail:aliases", "redis", "in-redis")
        extra = MAPS.format(folder=folder, port=self.server.address[1])
        self.smar = Smar(folder, ns.address[1], mt="my.dom lmtp:\nhost.my.dom lmtp:\n", extra=extra)

    def write(self, kind: str, value: bytes) -> None:
        write_map(str(self.folder / FILES[kind]), [(kind.encode(), value)], kind=kind, mode=0o644)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    pytest.importorskip("lmdb")
    needs("redis-server")
    with Nameserver({}) as ns, Redis(tmp_path) as redis:
        made = Bench(tmp_path, ns, redis)
        with made.smar:
            yield made
        made.server.stop()


def alias(client: Client, name: str) -> str:
    """What `name` stands for, or the code with which it fails."""
    (target,) = client.ask(Resolve(20, True, f"{name}@my.dom".encode())).targets
    return str(target.code) if target.code else target.address.partition(b"@")[0].decode()


def test_every_type(bench: Bench) -> None:
    client = bench.smar.connect()
    types = [*FILES, "regex", "socket", "redis"]
    assert [alias(client, name) for name in types] == [f"in-{name}" for name in types]
    assert alias(client, "nowhere") == "nowhere"

    database = sqlite3.connect(bench.folder / "q.sqlite")  # in place: seen at once
    database.execute("UPDATE map SET value = ?", (b"changed",))
    database.commit()
    database.close()
    bench.redis.client.hset("mail:aliases", "redis", "changed")
    assert [alias(client, name) for name in ("sqlite", "redis")] == ["changed", "changed"]

    for kind in FILES:
        bench.write(kind, b"new")
    bench.smar.process.send_signal(signal.SIGUSR1)
    client.news(2)
    assert [alias(client, kind) for kind in FILES] == ["new"] * len(FILES)

    bench.redis.stop()
    assert alias(client, "redis") == "451"
    assert alias(client, "hash") == "451"  # hash* is asked for before hash, of all maps
    assert "map r: " in bench.smar.wait_for("func=map_lookup")
    bench.redis.start()
    bench.redis.client.hset("mail:aliases", "redis", "again")
    assert alias(client, "redis") == "again"
    assert bench.smar.stop() == 0
