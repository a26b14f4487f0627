"""What is shown is what the server answers: the same decisions, traced, in random worlds."""
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from play import SETUP, Play, keep_order
from test_access import ACCESS, ALIASES, DNS, MAPS

from meta1g.proto.msg_ar import CheckConnect, CheckGrey, CheckMail, CheckRcpt, Resolve, Resolved, Verdict, Want
from meta1g.smar.access import check_connect, check_grey, check_mail, check_rcpt
from meta1g.smar.ask import GreyAnswer, GreyAsk
from meta1g.smar.explain import Step, decided_by, described, traced
from meta1g.smar.resolve import resolve
from meta1g.smar.setup import Setup

DOMAINS = sorted({key.rpartition(b"@")[2] for key in ACCESS if b"@" in key} | {b"my.dom", b"a.dom", b"none.dom",
                 b"temp.dom", b"evil.dom", b"static.dom", b"gate.dom", b"[192.0.2.66]", b"sub.spammer.domain"})
ADDRESSES = st.builds(
    lambda user, detail, domain: user + detail + b"@" + domain.lstrip(b"."),
    st.sampled_from([b"known", b"root", b"abuse", b"user1", b"relay", b"dis", b"u"]),
    st.sampled_from([b"", b"+", b"+x"]), st.sampled_from(DOMAINS))
CLIENTS = st.sampled_from([f"198.51.100.{n}" for n in range(1, 10)] + ["10.1.2.3", "192.0.2.1", "2001:db8::1", ""])
RULES = st.sampled_from([b"relay", b"quick:relay", b"ok", b"quick:ok", b"reject", b"cont", b"discard",
                         b"error:451 4.7.1 later", b"quick:error:550 5.7.1 no", b"nonsense"])
WORLDS = st.dictionaries(st.sampled_from(sorted(ACCESS)), RULES, max_size=8)
QUESTIONS: st.SearchStrategy[Any] = st.one_of(
    st.builds(CheckConnect, st.sampled_from([0, 1, 3]), CLIENTS),
    st.builds(CheckMail, st.sampled_from([0, 1]), st.booleans(), CLIENTS, ADDRESSES),
    st.builds(CheckRcpt, st.sampled_from([0, 1, Want.ACCESS | Want.PROTECTED]), CLIENTS, ADDRESSES, ADDRESSES),
    st.builds(CheckGrey, st.booleans(), st.just("192.0.2.1"), ADDRESSES, ADDRESSES),
    st.builds(Resolve, st.just(0.0), st.booleans(), ADDRESSES))
GREY = Setup(hostname=b"host.my.dom", has_aliases=True, grey_mask=0xFFFFFFFF)


class GreyPlay(Play):
    def answer(self, ask: Any) -> Any:
        if isinstance(ask, GreyAsk):
            return GreyAnswer(len(ask.key) % 2 == 0, "confirmed", 1.0)
        return super().answer(ask)


def work(setup: Setup, question: Any) -> Any:
    match question:
        case CheckConnect():
            return check_connect(setup, question)
        case CheckMail():
            return check_mail(setup, question)
        case CheckRcpt():
            return check_rcpt(setup, question)
        case CheckGrey():
            return check_grey(setup, question)
        case _:
            return resolve(setup, question.address, is_expanded=question.expand)


@given(WORLDS, QUESTIONS, st.sampled_from(["", "access_map", "mailertable", "aliases"]))
def test_shown_is_answered(world: dict[bytes, bytes], question: Any, broken: str) -> None:
    aliases = {**ALIASES, b"user1": b"<u@far.dom> <known@my.dom>", b"owner-user1": b"known", b"u": b"u1 u2"}
    maps = {**MAPS, "access_map": {**ACCESS, **world}, "aliases": aliases}
    if broken:
        maps[broken] = "temp"
    steps: list[Step] = []
    shown = GreyPlay(maps, DNS).run(traced(work(GREY, question), steps, 0.0))
    assert shown == GreyPlay(maps, DNS).run(work(GREY, question))
    if isinstance(question, Resolve):
        shown = Resolved(tuple(one.target(0.0, keep_order) for one in shown))
    json.dumps({"answer": described(shown), "steps": steps}, default=lambda octets: octets.decode("utf-8", "replace"))
    by = decided_by(shown, steps)
    if isinstance(shown, Verdict):
        assert bool(by) is bool(shown.action)
        if by.startswith("access_map"):
            assert any(step.get("found", "-") in by for step in steps)


def test_steps_say_what_was_asked() -> None:
    steps: list[Step] = []
    found = Play(MAPS, DNS).run(traced(check_mail(SETUP, CheckMail(1, False, "", b"u@evil.dom")), steps, 900.0))
    assert steps == [
        {"map": "mailertable", "keys": ["evil.dom", ".dom", "."], "result": "not found"},
        {"dns": "evil.dom MX", "status": "ok", "records": ["10 mx.evil.dom"], "ttl": 100},
        {"dns": "mx.evil.dom A", "status": "ok", "records": ["192.0.2.5", "127.0.0.1"], "ttl": 100},
        {"dns": "mx.evil.dom AAAA", "status": "nodata", "ttl": 100},
        {"map": "access_map", "keys": ["from:u*@evil.dom", "from:u@evil.dom", "from:@evil.dom", "from:u*@.dom",
                                       "from:u@.dom", "from:@.dom", "from:u*", "from:u"], "result": "not found"},
        {"map": "access_map", "keys": ["mxbadip:192.0.2.5", "mxbadip:192.0.2.", "mxbadip:192.0.", "mxbadip:192."],
         "result": "not found"},
        {"map": "access_map", "keys": ["mxbadip:127.0.0.1", "mxbadip:127.0.0.", "mxbadip:127.0.", "mxbadip:127."],
         "found": "mxbadip:127.", "value": "error:551 5.7.1 Bad IP address in MX/A list",
         "rule": "reject 551 5.7.1 Bad IP address in MX/A list"},
    ]
    assert decided_by(found, steps) == "access_map: mxbadip:127. error:551 5.7.1 Bad IP address in MX/A list"
    steps.clear()
    found = Play(MAPS, DNS).run(traced(check_mail(SETUP, CheckMail(1, False, "", b"u@none.dom")), steps, 0.0))
    assert decided_by(found, steps) == "built in: 553 5.1.8 Sender address does not exist"
