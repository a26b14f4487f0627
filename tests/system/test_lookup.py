"""What SMAR shows is what it answers: a real process is asked thousands of questions in both ways."""
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meta1g.proto.msg_ar import VOCABULARY, CheckConnect, CheckEhlo, CheckMail, CheckRcpt, Explain, Resolve, Want
from meta1g.smar.explain import described
from tests.lib.nameserver import Nameserver
from tests.lib.smarproc import Client, Smar
from tests.system.test_relaying import ACCESS, ALIASES, DNS

pytestmark = pytest.mark.system

QUESTIONS = 1000
DOMAINS = ("my.dom", "out.dom", "none.dom", "null.dom", "evil.dom", "spammer.domain", "sub.spammer.domain",
           "primary.domain", "other.domain", "gate.domain")
USERS = ("user", "user1", "root", "abuse", "staff", "team", "boss", "gone", "postmaster", "user+x")


@pytest.fixture
def smar(tmp_path: Path) -> Iterator[Smar]:
    def entries(text: str) -> dict[str, str]:
        pairs = [line.split(None, 1) for line in text.splitlines() if line]
        return {key.removesuffix(":"): value for key, value in pairs}

    with Nameserver(DNS) as ns:
        made = Smar(tmp_path, ns.address[1], mt="my.dom lmtp:\ngate.domain [192.0.2.8]\n",
                    extra="dnsbl { domain = bl.dom; tag = blacklist; }")
        made.map("access.db", entries(ACCESS))
        made.map("aliases.db", entries(ALIASES))
        with made:
            yield made


def question(luck: random.Random) -> Any:
    address = f"{luck.choice(USERS)}@{luck.choice(DOMAINS)}".encode()
    client = f"127.0.0.{luck.choice([1, 10, 11, 12, 13, 14, 15, 20, 22, 23])}"
    wants = luck.choice([0, Want.ACCESS, Want.ACCESS | Want.PROTECTED, Want.ACCESS | Want.RCPT_CONF])
    return luck.choice([
        CheckConnect(wants, client), CheckMail(wants & Want.ACCESS, luck.random() < 0.2, client, address),
        CheckRcpt(wants, client, f"{luck.choice(USERS)}@my.dom".encode(), address),
        CheckEhlo(luck.choice([b"forged.dom", b"x.dom"])), Resolve(20.0, luck.random() < 0.8, address)])


def comparable(answer: Any) -> Any:
    """Without what changes by the second."""
    text = json.dumps(answer, default=lambda octets: octets.decode())
    found = json.loads(text)
    for target in found if isinstance(found, list) else []:
        del target["ttl"]
    return found


def test_shown_is_answered(smar: Smar) -> None:
    luck = random.Random(4)
    client: Client = smar.connect()
    decided = 0
    for _ in range(QUESTIONS):
        asked = question(luck)
        shown = json.loads(client.ask(Explain(VOCABULARY.frame(asked))).text)
        assert comparable(shown["answer"]) == comparable(described(client.ask(asked))), asked
        decided += bool(shown["decided_by"])
        assert shown["steps"] or isinstance(asked, Resolve)
    assert decided > QUESTIONS // 10
    client.close()
