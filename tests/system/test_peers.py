"""Beside programs of others: a DNS server with MX records, Postfix's smtp-source and smtp-sink."""
import os
import pwd
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib.instance import Instance, free_port, run
from tests.lib.peers import needs
from tests.lib.wait import until

pytestmark = [pytest.mark.system, pytest.mark.peer]

ZONE = """\
$ORIGIN example.test.
$TTL 60
@ IN SOA ns hostmaster 1 3600 600 86400 60
@ IN NS ns
ns IN A 127.0.0.1
second IN MX 10 mx1
second IN MX 20 mx2
mx1 IN A 127.0.0.9
mx2 IN A 127.0.0.1
null IN MX 0 .
address IN MX 10 127.0.0.1.
"""


@pytest.fixture
def nameserver() -> Iterator[int]:
    needs("nsd")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="nsd.") as folder:
        Path(folder, "example.zone").write_text(ZONE)
        Path(folder, "nsd.conf").write_text(
            f'server:\n  ip-address: 127.0.0.1@{port}\n  zonesdir: "{folder}"\n  username: ""\n'
            f'  pidfile: "{folder}/nsd.pid"\n  xfrdfile: "{folder}/xfrd"\n  zonelistfile: "{folder}/zones"\n'
            f'  database: ""\n  xfrdir: "{folder}"\nremote-control:\n  control-enable: no\n'
            f'zone:\n  name: "example.test"\n  zonefile: "example.zone"\n')
        with subprocess.Popen(["nsd", "-d", "-c", f"{folder}/nsd.conf"], stderr=subprocess.PIPE) as process:
            try:
                yield port
            finally:
                process.terminate()
                process.communicate(timeout=20)


def test_relay_through_mx_to_a_second_instance(nameserver: int) -> None:
    """The first MX refuses the connection, the second is the other instance."""
    second = Instance("second.example.test")
    with second:
        first = Instance("first.example.test", "retry_delay_min = 1; DSN_handling { merge_delay_max = 1; }")
        first.edit("smar {", f"smar {{\n  DNS {{ nameservers = {{ 127.0.0.1 }} port = {nameserver}; timeout = 2; }}")
        first.edit("smtpc {\n", f"smtpc {{\n  remote_port = {second.port};\n")
        first.add("access", "to:@second.example.test relay\nto:@null.example.test relay\n"
                            "to:@address.example.test relay\n")
        with first:
            first.send("root@second.example.test", "Subject: by MX\n\nx\n", sender="root@first.example.test")
            path = until(lambda: second.mail("root"))[0]
            text = path.read_text()
            assert text.count("\nReceived: from ") == 2
            first.send("x@null.example.test", "Subject: null\n\nx\n", sender="root@first.example.test")
            until(lambda: any("Undeliverable" in p.read_text() for p in first.mail("root")))
            until(first.is_empty)


def test_ten_thousand_from_smtp_source(tmp_path: Path) -> None:
    needs("smtp-source", "smtp-sink")
    port = free_port()
    instance = Instance("mail.test")
    instance.add("mt", f"sink.test {{ port={port}; ip={{127.0.0.1}} }}\n")
    instance.add("access", "to:@sink.test relay\n")
    user = ["-u", pwd.getpwnam("nobody").pw_name] if os.geteuid() == 0 else []
    counts = tmp_path / "counts"
    with counts.open("wb") as output, subprocess.Popen(
            ["smtp-sink", *user, "-c", f"127.0.0.1:{port}", "1000"], stdout=output) as sink:
        with instance:
            run("smtp-source", "-s", "20", "-m", "1000", "-l", "1024", "-f", "a@mail.test", "-t", "x@sink.test",
                f"127.0.0.1:{instance.port}")
            before = _memory(instance)
            run("smtp-source", "-s", "20", "-m", "10000", "-l", "1024", "-f", "a@mail.test", "-t", "x@sink.test",
                f"127.0.0.1:{instance.port}")
            until(instance.is_empty, 60)
            assert instance.spool_files() == []
            counters = instance.status()["queue"]["counters"]
            assert (counters["delivered"], counters["deferred"], counters["bounced"]) == (11000, 0, 0)
            for name, kilobytes in _memory(instance).items():
                assert kilobytes < before[name] * 1.3 + 4096, f"{name} grew from {before[name]} to {kilobytes} KB"
        sink.terminate()
    assert int(re.findall(r"mesg=(\d+)", counts.read_text())[-1]) == 11000


def _memory(instance: Instance) -> dict[str, int]:
    found = {}
    for name, pid in instance.pids().items():
        status = Path(f"/proc/{pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+)", status)
        found[name] = int(match[1]) if match else 0
    return found
