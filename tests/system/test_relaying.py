"""Who may send what to whom, over real SMTP: the cases of M1 3.9.3, 3.9.4, 3.10.3, 4.3 to 4.5."""
import json
import shutil
import smtplib
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.lib.instance import BIN, Instance, other_user, run
from tests.lib.nameserver import Nameserver
from tests.lib.wait import until

pytestmark = pytest.mark.system

DNS = {
    "out.dom MX": "10 mx.out.dom.", "mx.out.dom A": "192.0.2.1", "other.domain A": "192.0.2.2",
    "none.dom MX": "nx", "null.dom MX": "0 .", "evil.dom A": "192.0.2.66",
    "spammer.domain A": "192.0.2.3", "sub.spammer.domain A": "192.0.2.3", "sub.sub.spammer.domain A": "192.0.2.3",
    "20.0.0.127.in-addr.arpa PTR": "spammer.host.", "spammer.host A": "127.0.0.20",
    "22.0.0.127.bl.dom A": "127.0.0.2", "23.0.0.127.bl.dom A": "127.0.0.4",
}
ACCESS = """
cltaddr:127.0.0.10     relay
cltaddr:127.0.0.11     quick:relay
cltaddr:127.0.0.12     error:551 5.7.1 No direct mail from you
cltaddr:127.0.0.13     quick:ok
cltaddr:127.0.0.14     discard
cltname:spammer.host.  quick:error:551 5.7.1 No mail from spammers
cltresolve:tempptr     error:451 4.7.1 reverse lookup failed
blacklist:127.0.0.2    error:550 5.7.1 listed at bl.dom
blacklist:127.0.0.4    error:451 4.7.1 listed at bl.dom as suspicious
from:@spammer.domain   error:551 5.7.1 No spammers
from:@.spammer.domain  error:551 5.7.1 No spammers in subdomains either
mxbadip:192.0.2.66     error:551 5.7.1 Bad IP address in MX/A list
to:root                error:551 5.7.1 No mail to root
to:abuse               quick:ok
to:@primary.domain     relay
to:user1@gate.domain   relay
to:user1@other.domain  relay
to:postmaster@other.domain  relay
to:@other.domain       error:451 4.3.3 Try main MX server
to:gone@my.dom         discard
ehlo:forged.dom        error:550 5.7.1 That is not you
protectedrcpt:staff    from:<boss@my.dom> cltaddr:127.0.0.15 list:<team@my.dom>
"""
ALIASES = "boss: local:\nstaff: local:\nuser: local:\nabuse: local:\ngone: local:\nteam: <user@my.dom> <far@out.dom>\n"
Send = Callable[..., str]


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    made = Instance("my.dom", user=other_user())
    with Nameserver(DNS) as ns:
        ns.behave = {name: ["servfail*"] for name in ("slow.dom MX", "21.0.0.127.in-addr.arpa PTR")}
        made.edit("  map passwd { type = passwd; }\n"
                  "  local_user_map { name = passwd; flags = { implicitly_match_detail } }",
                  f"  DNS {{ nameservers = {{ 127.0.0.1 }}; port = {ns.address[1]}; timeout = 1; retries = 0; }}\n"
                  "  dnsbl { domain = bl.dom; tag = blacklist; }")
        made.edit("flags = { 8bitmime",
                  "protected_recipients { allow_by = { sender, client_ip } }\n  flags = { 8bitmime")
        (made.base / "etc" / "access").write_text("")
        made.add("access", ACCESS)
        made.add("aliases", ALIASES)
        with made:
            yield made


@pytest.fixture(scope="module")
def send(instance: Instance) -> Send:
    """Sends a message: the first refusal, `ok` when it was taken."""

    def session(client: str, mail: str, *rcpts: str, helo: str = "client.dom") -> str:
        with smtplib.SMTP(timeout=30, source_address=(client, 0)) as smtp:
            code, text = smtp.connect("127.0.0.1", instance.port)
            replies = [(code, text)]
            if code == 220:
                smtp.ehlo(helo)
                replies.append(smtp.mail(mail))
                replies += [smtp.rcpt(rcpt) for rcpt in rcpts] if replies[-1][0] == 250 else []
            bad = [f"{code} {text.decode()}" for code, text in replies if code >= 400]
            if bad:
                return bad[0]
            code, text = smtp.data("Subject: x\n\nx\n")
            return "ok" if code == 250 else f"{code} {text.decode()}"

    return session


CASES = [
    # client, sender, recipient, answer
    ("127.0.0.1", "a@out.dom", "b@out.dom", "550 5.7.1 Relaying denied"),  # outsider to outsider
    ("127.0.0.1", "a@out.dom", "user@my.dom", "ok"),
    ("127.0.0.1", "a@out.dom", "USER+detail@MY.DOM", "550 5.1.1"),  # `user` does not match details (3.12.1, 1e)
    ("127.0.0.1", "a@out.dom", "nobody@my.dom", "550 5.1.1"),
    ("127.0.0.1", "", "user@my.dom", "ok"),
    ("127.0.0.1", "a@out.dom", "postmaster@my.dom", "ok"),
    ("127.0.0.1", "nobody@my.dom", "user@my.dom", "553 5.1.8"),  # M1 3.12.2: is the local sender valid?
    ("127.0.0.1", "a@none.dom", "user@my.dom", "553 5.1.8 Sender address does not exist"),
    ("127.0.0.1", "a@slow.dom", "user@my.dom", "451 4.1.8"),
    ("127.0.0.1", "a@null.dom", "user@my.dom", "550 5.7.27"),
    ("127.0.0.1", "a@evil.dom", "user@my.dom", "551 5.7.1 Bad IP address in MX/A list"),
    ("127.0.0.1", "a@spammer.domain", "user@my.dom", "551 5.7.1 No spammers"),
    ("127.0.0.1", "a@sub.sub.spammer.domain", "user@my.dom", "551 5.7.1 No spammers in subdomains either"),
    ("127.0.0.1", "a@out.dom", "root@my.dom", "551 5.7.1 No mail to root"),
    ("127.0.0.10", "a@out.dom", "b@out.dom", "ok"),  # cltaddr: relay
    ("127.0.0.10", "a@out.dom", "nobody@my.dom", "550 5.1.1"),
    ("127.0.0.10", "a@out.dom", "root@out.dom", "551 5.7.1 No mail to root"),
    ("127.0.0.10", "a@none.dom", "b@out.dom", "553 5.1.8"),
    ("127.0.0.11", "a@none.dom", "root@out.dom", "ok"),  # quick:relay overrides the other checks
    ("127.0.0.12", "a@out.dom", "user@my.dom", "551 5.7.1 No direct mail from you"),
    ("127.0.0.13", "a@none.dom", "user@my.dom", "ok"),  # quick:ok
    ("127.0.0.13", "a@out.dom", "b@out.dom", "550 5.7.1 Relaying denied"),  # but it allows no relaying
    ("127.0.0.1", "a@out.dom", "any@primary.domain", "ok"),  # to: relay
    ("127.0.0.1", "a@out.dom", "any@sub.primary.domain", "550 5.7.1 Relaying denied"),
    ("127.0.0.1", "a@out.dom", "user1@gate.domain", "ok"),  # a gateway, M1 4.4
    ("127.0.0.1", "a@out.dom", "user2@gate.domain", "550 5.7.1 Relaying denied"),
    ("127.0.0.1", "a@out.dom", "user1@other.domain", "ok"),  # a backup MX server, M1 4.5
    ("127.0.0.1", "a@out.dom", "user9@other.domain", "451 4.3.3 Try main MX server"),
    ("127.0.0.11", "a@out.dom", "user9@other.domain", "ok"),
    ("127.0.0.20", "a@out.dom", "user@my.dom", "551 5.7.1 No mail from spammers"),
    ("127.0.0.21", "a@out.dom", "user@my.dom", "451 4.7.1 reverse lookup failed"),
    ("127.0.0.22", "a@out.dom", "user@my.dom", "550 5.7.1 listed at bl.dom"),
    ("127.0.0.23", "a@out.dom", "user@my.dom", "451 4.7.1 listed at bl.dom as suspicious"),
    ("127.0.0.1", "a@out.dom", "staff@my.dom", "550 5.7.1 You may not send to this recipient"),
    ("127.0.0.1", "boss@my.dom", "staff@my.dom", "ok"),
    ("127.0.0.1", "far@out.dom", "staff@my.dom", "ok"),  # on the list
    ("127.0.0.15", "a@out.dom", "staff@my.dom", "ok"),
    ("127.0.0.11", "a@out.dom", "staff@my.dom", "ok"),  # quick:relay
]


@pytest.mark.parametrize(("client", "mail", "rcpt", "answer"), CASES)
def test_dialog(send: Send, client: str, mail: str, rcpt: str, answer: str) -> None:
    found = send(client, mail, rcpt)
    # what is said in the greeting is said with 421 when it is temporary, since the session is over
    assert found.startswith(answer) or (answer[:3] == "451" and found == "421" + found[3:] and answer[4:] in found)


def test_name_in_ehlo(send: Send) -> None:
    assert send("127.0.0.1", "a@out.dom", "user@my.dom", helo="forged.dom") == "550 5.7.1 That is not you"
    assert send("127.0.0.11", "a@out.dom", "user@my.dom", helo="forged.dom") == "ok"


def test_discard(send: Send, instance: Instance) -> None:
    """For a client, or a recipient alone (M1 3.9.3): it is logged and never arrives."""
    assert send("127.0.0.14", "a@out.dom", "user@my.dom") == "ok"
    assert send("127.0.0.1", "a@out.dom", "gone@my.dom") == "ok"
    until(lambda: instance.log("smtps").count("status=discarded") >= 2, 10)


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("swaks") is None, reason="swaks is not here")
@pytest.mark.parametrize(("client", "mail", "rcpt", "answer"), CASES[:27:3])
def test_swaks(instance: Instance, client: str, mail: str, rcpt: str, answer: str) -> None:
    done = subprocess.run(
        ["swaks", "--server", f"127.0.0.1:{instance.port}", "--local-interface", client, "--from", mail or "<>",
         "--to", rcpt], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode == 0) is (answer == "ok")
    assert answer == "ok" or f"<** {answer}" in done.stdout


def lookup(instance: Instance, *words: str) -> dict[str, object]:
    done = run(BIN / "meta1g", "lookup", "-f", instance.conf, "--json", *words)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_lookup_shows_why(instance: Instance) -> None:
    found = lookup(instance, "sender", "a@spammer.domain")
    assert found["decided_by"] == "access_map: from:@spammer.domain error:551 5.7.1 No spammers"
    found = lookup(instance, "client", "127.0.0.22")
    assert found["decided_by"] == "access_map: blacklist:127.0.0.2 error:550 5.7.1 listed at bl.dom"
    command = (BIN / "meta1g", "lookup", "-f", instance.conf)
    text = run(*command, "rcpt", "<staff@my.dom>", "--sender", "boss@my.dom").stdout
    assert "protectedrcpt:staff  from:<boss@my.dom>" in text
    assert "protected=" not in text
    text = run(*command, "route", "team@my.dom").stdout
    assert "aliases: team*, team -> team  <user@my.dom> <far@out.dom>" in text
    assert "<far@out.dom>: mx.out.dom[192.0.2.1]:25" in text
    text = run(*command, "map", "aliases", "Boss").stdout
    assert text.endswith("key=boss, value=local:\n")
    for words in (("map", "aliases"), ("nothing", "x")):
        assert run(*command, *words, check=False).returncode == 2


def test_qmgrctl_has_maps_read_anew(send: Send, instance: Instance) -> None:
    assert send("127.0.0.1", "a@out.dom", "b@later.dom").startswith("550 5.7.1")
    instance.add("access", "to:@later.dom relay\n")
    run(BIN / "meta1g", "qmgrctl", "-f", instance.conf, "-r")
    until(lambda: send("127.0.0.1", "a@out.dom", "b@later.dom") == "ok", 10)


# Greylisting


def greylisting(flags: str, options: str = "grey_wait = 1;") -> Instance:
    made = Instance("my.dom", user=other_user())
    made.edit("smar {", f"smar {{\n  greylisting {{ {options} }}")
    made.edit("flags = { 8bitmime, access", f"flags = {{ 8bitmime, access, {flags}")
    (made.base / "etc" / "access").write_text("")
    made.add("access", "cltaddr:127.0.0.10 relay\ncltaddr:127.0.0.11 ok\nto:root quick:ok\n"
                       "smtps_rcpt_conf:nobody@my.dom flags = greylisting;\n")
    return made


def try_once(instance: Instance, client: str, mail: str, *rcpts: str) -> int:
    """The last code of a session with one message; 421 ends it."""
    with smtplib.SMTP(timeout=30, source_address=(client, 0)) as smtp:
        smtp.connect("127.0.0.1", instance.port)
        smtp.ehlo("x")
        smtp.mail(mail)
        for rcpt in rcpts:
            code, _ = smtp.rcpt(rcpt)
            if code == 421:
                return code
        try:
            return smtp.data("x")[0]
        except smtplib.SMTPDataError as error:
            return error.smtp_code


def test_simple_greylisting() -> None:
    with greylisting("greylisting") as instance:
        assert try_once(instance, "127.0.0.1", "", "nobody@my.dom") == 421
        assert try_once(instance, "127.0.0.1", "", "nobody@my.dom") == 421
        assert try_once(instance, "127.0.0.1", "", "unknown-user@my.dom", "root@my.dom") == 250  # to: quick:ok
        for client in ("127.0.0.10", "127.0.0.11"):  # the session is relay or ok
            assert try_once(instance, client, "", "nobody@my.dom") == 250
        # an address that is refused anyway is not noted: the next mail is the first one
        assert try_once(instance, "127.0.0.2", "", "unknown-user@my.dom") != 421
        assert lookup(instance, "grey", "nobody@my.dom", "--client", "127.0.0.2")["steps"][0]["state"] == "unknown"  # type: ignore[index]
        until(lambda: try_once(instance, "127.0.0.1", "", "nobody@my.dom") == 250, 10)
        assert try_once(instance, "127.0.0.1", "root@my.dom", "nobody@my.dom") == 250
        instance.ctl("restart")  # it is remembered
        assert try_once(instance, "127.0.0.1", "", "nobody@my.dom") == 250


def test_full_greylisting_until_data() -> None:
    with greylisting("fullgreylisting, delay_greylisting_error_until_DATA") as instance:
        rcpts = ("nobody@my.dom", "daemon@my.dom")
        assert try_once(instance, "127.0.0.1", "", *rcpts) == 421  # at DATA, so both are noted
        until(lambda: try_once(instance, "127.0.0.1", "", *rcpts) == 250, 10)
        assert try_once(instance, "127.0.0.1", "root@my.dom", *rcpts) == 421  # another sender
        assert try_once(instance, "127.0.0.3", "", *rcpts) == 421  # another client
        _look_at_the_list(instance, rcpts)


def _look_at_the_list(instance: Instance, rcpts: tuple[str, ...]) -> None:
    """greyprint and greyrm, while SMAR uses the databases and while it does not."""
    def ask(*words: str) -> list[str]:
        program, *rest = words
        return run(BIN / "meta1g", program, "-f", instance.conf, *rest, check=False).stdout.splitlines()

    listed = ask("greyprint")
    assert len(listed) == 6 and sum(" white since 2" in line for line in listed) == 2
    assert [json.loads(line)["key"] for line in ask("greyprint", "--json", "*.3")] == [
        ["127.0.0.3", "", rcpt] for rcpt in sorted(rcpts)]
    assert ask("greyrm", "-n", "127.0.0.1") == ["4 would be removed"]
    assert ask("greyrm", "127.0.0.1") == ["4 removed"]
    run(BIN / "meta1g", "qmgrctl", "-f", instance.conf, "-r")
    until(lambda: try_once(instance, "127.0.0.1", "", *rcpts) == 421, 10, "SMTPS has heard that maps are others")
    assert len(ask("greyprint")) == 4
    instance.stop()
    assert ask("greyrm", "*") == ["4 removed"]
    instance.start()
    assert try_once(instance, "127.0.0.3", "", *rcpts) == 421 and len(ask("greyprint")) == 2


def test_greylisting_for_one_recipient_and_a_net() -> None:
    with greylisting("rcpt_conf", "grey_wait = 1; netmask = 0xFFFFFF00;") as instance:
        assert try_once(instance, "127.0.0.1", "", "daemon@my.dom") == 250
        assert try_once(instance, "127.0.0.1", "", "nobody@my.dom") == 421
        until(lambda: try_once(instance, "127.0.0.77", "", "nobody@my.dom") == 250, 10)  # the same net
        assert try_once(instance, "127.0.1.1", "", "nobody@my.dom") == 421
