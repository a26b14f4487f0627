"""The example of M1 10.2: a socket map for aliases that stops the search for derivatives."""
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meta1g.conf.load import load_text
from meta1g.maps.m_socket import netstring
from meta1g.maps.map import NOT_FOUND, Found, Result, TempFail
from meta1g.proc.log import Log
from meta1g.smar.alias import find_alias
from meta1g.smar.cache import TtlCache
from meta1g.smar.dnsq import DnsConf, DnsThread
from meta1g.smar.engine import Engine
from meta1g.smar.open import Maps, make_setup
from tests.lib.mapserver import Server

CONF = """
smar {
  start_action = wait; path = x; arguments = x;
  map aliasmap { type = socket; mapname = aliases; %s }
  map more { type = hash; file = more.db; }
  map both { type = sequence; maps = { aliasmap, more }; }
  aliases { name = %s; flags = { localpart, local_domains }; }
}
"""


class Bench:
    """SMAR's maps and engine over a server that knows the local alias foo only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.replies = {"foo": b"OK local:"}
        self.server = Server(self.handle)

    def handle(self, data: bytes) -> bytes:
        key = data.decode().partition(":")[2].removesuffix(",").removeprefix("aliases ")
        self.asked.append(key)
        return netstring(self.replies.get(key, b"NOTFOUND "))

    def look(self, address: bytes, name: str = "aliasmap") -> Result:
        (self.folder / "mt").touch()
        where = f"address = {self.server.address[0]}; port = {self.server.address[1]};"
        config = load_text(CONF % (where, name), str(self.folder / "meta1.conf"))
        conf, log = config.module("smar"), Log("test")
        maps, cache = Maps(config, conf, log), TtlCache[Any](10)
        dns = DnsThread(DnsConf((("127.0.0.1", 1),), 0.2, 0), cache, time.monotonic, random.SystemRandom())
        engine = Engine(maps.by_role, dns, cache, log, threads=1)
        engine.start()
        done: list[Any] = []
        event = threading.Event()
        work = find_alias(make_setup("host.my.dom", conf, maps), address, is_local=True)
        engine.begin(work, lambda result, *_: (done.append(result), event.set()), 10)
        assert event.wait(15)
        engine.stop()
        result: Result = done[0]
        return result


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.server.stop()


def test_all_derivatives_are_asked_for(bench: Bench) -> None:
    assert bench.look(b"foo@my.dom") == Found(b"foo", b"local:")
    assert bench.asked == ["foo*@my.dom", "foo@my.dom", "@my.dom", "foo*@.dom", "foo@.dom", "@.dom", "foo*", "foo"]


def test_no_more_stops(bench: Bench) -> None:
    bench.replies["foo@my.dom"] = b"NOMORE"
    assert bench.look(b"foo@my.dom") is NOT_FOUND  # not the local alias foo
    assert bench.asked[-1] == "foo@my.dom" and "foo" not in bench.asked


@pytest.mark.parametrize("word", [b"NOMORE", b"TEMP", b"PERM"])
def test_the_rest_of_a_sequence_is_not_tried(bench: Bench, word: bytes) -> None:
    bench.replies["foo*@my.dom"] = word  # the first key
    result = bench.look(b"foo@my.dom", "both")
    if word == b"NOMORE":
        assert result is NOT_FOUND  # more.db is not there, and would have failed
    else:
        assert f"map aliasmap: server said {word.decode()}" in str(result)


def test_not_found_goes_on_with_the_sequence(bench: Bench) -> None:
    result = bench.look(b"foo@my.dom", "both")
    assert isinstance(result, TempFail) and "more.db" in result.reason
