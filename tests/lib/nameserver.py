"""A scripted nameserver on a loopback port: answers from a table, and misbehaves on demand.

    with Nameserver({"a.dom A": "192.0.2.1", "a.dom MX": "10 mx.a.dom"}) as ns:
        ns.address      # ("127.0.0.1", port), UDP and TCP
        ns.behave["a.dom A"] = ["drop", "servfail"]    # the next two queries
        ns.queries      # what was asked, as "a.dom A"

A value holds records separated by `;` in zone file syntax, `nx` for NXDOMAIN, `` for no data. A CNAME under
"a.dom CNAME" is answered with the whole chain that the table holds; "a.dom CNAME alone" in `behave` gives
only the first link. Behaviours: drop, servfail, refused, truncate, wrong_id, wrong_question, wrong_port, garbage,
late (answers after `delay`), twice, poison, alone, nosoa, formerr, notimp, secure (with the AD bit); " link" behind one
adds alone.
"""
import select
import socket
import struct
import threading
import time
from collections.abc import Mapping
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

SOA = "ns.dom. root.dom. 1 3600 600 86400 {}"


class Nameserver:
    """The server; it runs in a thread between __enter__ and __exit__."""

    def __init__(self, table: Mapping[str, str], *, ttl: int = 300, minimum: int = 60, delay: float = 0.3,
                 host: str = "127.0.0.1") -> None:
        self.table = dict(table)
        self.behave: dict[str, list[str]] = {}
        self.queries: list[str] = []
        self.sources: set[int] = set()
        self.ids: list[int] = []
        self.flags: list[int] = []
        self.tcp_queries = 0
        self.ttl, self.minimum, self.delay = ttl, minimum, delay
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._udp, self._tcp = self._bind(host)
        self._other = socket.socket(self._family, socket.SOCK_DGRAM)
        self._other.bind((host, 0))
        self.address = (host, self._udp.getsockname()[1])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _bind(self, host: str) -> tuple[socket.socket, socket.socket]:
        for _ in range(50):  # the same port must be free for both
            udp = socket.socket(self._family, socket.SOCK_DGRAM)
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            udp.bind((host, 0))
            tcp = socket.socket(self._family, socket.SOCK_STREAM)
            try:
                tcp.bind(udp.getsockname()[:2])
            except OSError:
                udp.close()
                tcp.close()
                continue
            tcp.listen(16)
            return udp, tcp
        raise OSError("no port is free for UDP and TCP")

    def __enter__(self) -> "Nameserver":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(5)
        for sock in (self._udp, self._tcp, self._other):
            sock.close()

    def _run(self) -> None:
        streams: dict[socket.socket, bytes] = {}
        while not self._stop.is_set():
            ready, _, _ = select.select([self._udp, self._tcp, *streams], [], [], 0.05)
            for sock in ready:
                if sock is self._udp:
                    data, peer = self._udp.recvfrom(65535)
                    self.sources.add(peer[1])
                    self._answer_udp(data, peer)
                elif sock is self._tcp:
                    streams[self._tcp.accept()[0]] = b""
                else:
                    self._serve_tcp(sock, streams)
        for sock in streams:
            sock.close()

    def _serve_tcp(self, sock: socket.socket, streams: dict[socket.socket, bytes]) -> None:
        data = sock.recv(65535)
        streams[sock] += data
        while len(streams[sock]) >= 2 and len(streams[sock]) >= 2 + struct.unpack(">H", streams[sock][:2])[0]:
            end = 2 + struct.unpack(">H", streams[sock][:2])[0]
            query, streams[sock] = streams[sock][2:end], streams[sock][end:]
            self.tcp_queries += 1
            key, behaviour = self._note(query)
            if behaviour == "drop":
                data = b""  # TCP: close instead of an answer
                break
            for octets in self.reply(query, key, behaviour):
                sock.sendall(struct.pack(">H", len(octets)) + octets)
        if not data:
            del streams[sock]
            sock.close()

    def _answer_udp(self, data: bytes, peer: Any) -> None:
        key, behaviour = self._note(data)
        if behaviour == "drop":
            return
        for octets in self.reply(data, key, behaviour):
            if behaviour == "late":
                threading.Timer(self.delay, self._udp.sendto, (octets, peer)).start()
            else:
                (self._other if behaviour == "wrong_port" else self._udp).sendto(octets, peer)

    def _note(self, data: bytes) -> tuple[str, str]:
        query = dns.message.from_wire(data)
        question = query.question[0]
        key = f"{question.name.to_text(omit_final_dot=True).lower()} {dns.rdatatype.to_text(question.rdtype)}"
        self.queries.append(key)
        self.ids.append(query.id)
        self.flags.append(int(query.flags))
        script = self.behave.get(key) or self.behave.get("*")
        if not script:
            return key, ""
        return key, script.pop(0) if len(script) > 1 or script[0][-1:] != "*" else script[0][:-1]

    def reply(self, data: bytes, key: str, behaviour: str) -> list[bytes]:
        """Octets of the answers to send."""
        query = dns.message.from_wire(data)
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        behaviour, _, is_link = behaviour.partition(" ")
        if behaviour == "secure":
            reply.flags |= dns.flags.AD
        if behaviour in ("servfail", "refused", "formerr", "notimp"):
            reply.set_rcode(dns.rcode.from_text(behaviour.upper()))
        else:
            self._fill(reply, key, "alone" if is_link else behaviour)
        if behaviour == "truncate":
            reply.answer = []
            reply.flags |= dns.flags.TC
        if behaviour == "wrong_id":
            reply.id ^= 1
        if behaviour == "wrong_question":
            reply.question[0].name = dns.name.from_text("other.dom.")
        if behaviour == "garbage":
            return [data[:2] + b"\x80\x00garbage"]
        octets = reply.to_wire(max_size=65535)
        return [octets, octets] if behaviour == "twice" else [octets]

    def _fill(self, reply: Any, key: str, behaviour: str) -> None:
        name, rtype = key.split()
        if behaviour == "poison":
            reply.answer.append(dns.rrset.from_text("victim.dom.", 9999, "IN", "A", "203.0.113.66"))
            reply.answer.append(dns.rrset.from_text("stray.dom.", 9999, "IN", "CNAME", "victim.dom."))
            for section in (reply.additional, reply.authority):
                section.append(dns.rrset.from_text("victim.dom.", 9999, "IN", "A", "203.0.113.66"))
        for _ in range(30):
            link = self.table.get(f"{name} CNAME")
            if link is None or rtype == "CNAME":
                break
            reply.answer.append(dns.rrset.from_text(f"{name}.", self.ttl, "IN", "CNAME", f"{link}."))
            name = link
            if behaviour == "alone":
                return
        records = self.table.get(f"{name} {rtype}", "")
        if records == "nx":
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif records:
            texts = [text.strip() for text in records.split(";")]
            reply.answer.append(dns.rrset.from_text(f"{name}.", self.ttl, "IN", rtype, *texts))
            return
        if behaviour != "nosoa":
            reply.authority.append(dns.rrset.from_text("dom.", 3600, "IN", "SOA", SOA.format(self.minimum)))


def wait_until(condition: Any, timeout: float = 10.0) -> bool:
    """Poll a condition; whether it became true in time."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return bool(condition())
