"""Targets: readers of content, commands, parameters, PROXY and XCLIENT, conditions and regexes."""
import contextlib
import ipaddress
from dataclasses import fields
from typing import Final

from meta1g.conf import condition as language
from meta1g.conf.expression import to_text
from meta1g.maps.dfa import Matcher
from meta1g.mta import addr, limits, posix
from meta1g.mta.errors import RemoteProtocolError
from meta1g.mta.reply import Reply
from meta1g.proto import proxy as balancer
from meta1g.proto import smtpp as lines
from meta1g.proto.smtp import xclient as attributes_of
from meta1g.proto.smtp.command import Mail, Rcpt, Syntax, parse_command
from meta1g.proto.smtp.data import ChunkReader, ContentReader, NormalReader, stuff, unstuff
from meta1g.proto.smtp.line_ends import LineEnds
from meta1g.proto.smtp.params import (
    MailParams,
    Offers,
    for_members,
    mail_params,
    notifies,
    rcpt_params,
    split_onward,
)
from meta1g.smtps.condition import Condition, Facts, NoValue
from meta1g.smtps.trace import HeaderScanner
from tests.fuzz.source import Source, pieces

_OFFERS: Final = Offers(*([True] * len(Offers._fields)))
_SIZE_MAX: Final = 1 << 20


def content(data: bytes) -> None:
    """Content by DATA ends at CRLF . CRLF, and comes out as it is."""
    source = Source(data)
    most, wire = source.number(9), source.rest()
    reader, out, sent = ContentReader(), b"", 0
    for piece in pieces(wire, most):
        out += reader.feed(piece)
        sent += len(piece)
        if reader.is_done:
            break
        assert sent - len(out) <= 5
    text, end, rest = (b"\r\n" + wire).partition(b"\r\n.\r\n")
    assert reader.is_done is bool(end)
    if not end:
        assert wire.startswith(out)
        return
    assert reader.rest + wire[sent:] == rest
    assert out == (text + b"\r\n")[2:]
    bare = out.replace(b"\r\n", b"")
    assert reader.has_bare_line_end is (b"\r" in bare or b"\n" in bare)
    assert reader.has_nul is (b"\0" in out)
    assert reader.is_8bit is not out.isascii()
    assert reader.size == len(unstuff(out))
    assert reader.longest_line == max(map(len, out.split(b"\r\n")))


def chunks(data: bytes) -> None:
    """Content by BDAT comes out in wire form."""
    source = Source(data)
    most, text = source.number(9), source.rest()
    reader = ChunkReader()
    out = b"".join([reader.feed(piece) for piece in pieces(text, most)] if text else []) + reader.finish()
    assert out == stuff(text)
    assert unstuff(out) in (text, text + b"\r\n")
    assert reader.size == len(text)
    bare = text.replace(b"\r\n", b"")
    assert reader.has_bare_line_end is (b"\r" in bare or b"\n" in bare)


def normal(data: bytes) -> None:
    """Content that is normalised has CRLF, no other CR or LF, and all else, whether it comes by DATA or BDAT."""
    source = Source(data)
    most, wire = source.number(9), source.rest()
    whole, reader, out = ContentReader(), NormalReader(), b""
    received = whole.feed(wire)
    for piece in pieces(wire, most):
        if not reader.is_done:
            out += reader.feed(piece)
    assert reader.is_done is whole.is_done
    if whole.is_done:
        expected = _with_line_ends(unstuff(received))
        assert out == stuff(expected)
        assert whole.rest.startswith(reader.rest)
        assert (reader.size, reader.has_bare_line_end) == (len(expected), False)
    by_bdat = ChunkReader(LineEnds(is_stuffed=False))
    out = b"".join(by_bdat.feed(piece) for piece in pieces(wire, most) if wire) + by_bdat.finish()
    assert out == stuff(_with_line_ends(wire))


def _with_line_ends(text: bytes) -> bytes:
    return b"\r\n".join(line.replace(b"\r", b" ") for line in text.replace(b"\r\n", b"\n").split(b"\n"))


def header(data: bytes) -> None:
    """A header says the same in all pieces."""
    source = Source(data)
    most, text = source.number(40), source.rest()
    whole, cut = HeaderScanner(), HeaderScanner()
    whole.feed(text)
    for piece in pieces(text, most):
        cut.feed(piece)
    assert cut.facts() == whole.facts()


def command(data: bytes) -> None:
    """A line is a command or gets a reply; an address that was read is read again as the same."""
    source = Source(data)
    bits, line = source.number(256), source.rest().replace(b"\r\n", b"")
    syntax = Syntax(bits & 1 > 0, bits & 2 > 0, bits & 4 > 0, bits & 8 > 0)
    found = parse_command(line, syntax)
    assert found == parse_command(line + b" ", syntax) or isinstance(found, Reply)
    if not isinstance(found, Mail | Rcpt):
        return
    address = found.address
    assert len(address) <= limits.PATH
    assert len({keyword for keyword, _ in found.params}) == len(found.params)
    if address and address != b"postmaster":
        assert addr.parse_mailbox(address, utf8=syntax.utf8) == address
        verb = b"MAIL FROM:" if isinstance(found, Mail) else b"RCPT TO:"
        again = parse_command(verb + addr.bracketed(address), syntax)
        assert isinstance(again, Mail | Rcpt)
        assert again.address == address


def parameters(data: bytes) -> None:
    """Parameters are understood or refused; what goes on with the mail can be read again."""
    source = Source(data)
    bits = source.number(256)
    line = b"RCPT TO:<a@b> " + source.rest().replace(b"\r\n", b" ")
    found = parse_command(line, Syntax(utf8=bits & 1 > 0))
    if not isinstance(found, Rcpt):
        return
    mail = mail_params(found.params, _OFFERS, _SIZE_MAX)
    rcpt = rcpt_params(found.params, _OFFERS, is_utf8=bits & 1 > 0)
    assert isinstance(mail, Reply) or 0 <= mail.size <= _SIZE_MAX
    for onward in (mail.onward if isinstance(mail, MailParams) else b"", rcpt if isinstance(rcpt, bytes) else b""):
        assert b" ".join(k + b"=" * bool(v) + v for k, v in split_onward(onward).items()) == onward
        assert notifies(onward) <= {b"SUCCESS", b"FAILURE", b"DELAY"}
        assert b"SUCCESS" not in notifies(for_members(onward))


def proxy(data: bytes) -> None:
    """A PROXY header is read as soon as it is complete, and its beginnings want more or are refused."""
    outcomes = []
    for end in {*range(min(len(data), 240)), len(data)}:
        try:
            behind = balancer.parse(data[:end])
        except RemoteProtocolError:
            outcomes.append("bad")
            continue
        outcomes.append("" if behind is None else behind.ip or "unknown")
        if behind is not None:
            assert data[:end].endswith(behind.rest)
            assert not behind.ip or str(ipaddress.ip_address(behind.ip)) == behind.ip
        elif end >= balancer.HEADER_MAX:
            raise AssertionError("wants more than a header may have")
    assert len(set(outcomes) - {""}) <= 1


def smtpp(data: bytes) -> None:
    """Lines of smtpp are refused, or say what can be said again; only who has the key is heard."""
    source = Source(data)
    has_key, kind, line = source.number(2), source.number(3), source.rest()
    if has_key:
        line += b" " + lines.mac(line, b"key")
    try:
        if kind == 0:
            assert lines.request(lines.parse_request(line, b"key"), b"key").count(b" ") == line.count(b" ")
        elif kind == 1:
            client = lines.parse_introduction(line, b"key")
            assert lines.parse_introduction(lines.introduction(client, b"key")[:-2], b"key") == client
        else:
            reason = lines.parse_answer(line)
            assert lines.parse_answer(lines.answer(reason)[:-2]) == reason
            return
    except RemoteProtocolError:
        return
    assert has_key


def xclient(data: bytes) -> None:
    """Attributes are printable, and an address is one."""
    known = attributes_of.XCLIENT if data[:1] < b"\x80" else attributes_of.XFORWARD
    found = attributes_of.attributes(data[1:], known)
    if isinstance(found, Reply):
        return
    assert found
    assert set(found) <= set(known)
    assert all(value.isprintable() for value in found.values())
    if found.get("ADDR"):
        assert str(ipaddress.ip_address(found["ADDR"])) == found["ADDR"]


def condition(data: bytes) -> None:
    """A condition has a value, or not, or is none; printed it is the same."""
    source = Source(data)
    facts = Facts(hops=source.number(256), message_size=source.number(256), transactions=source.number(3),
                  mail=source.octets(source.number(12)), rcpt=source.octets(source.number(12)))
    text = source.rest().decode("utf-8", "surrogateescape")
    try:
        tree = language.parse(text)
    except language.ConditionError as error:
        assert 0 <= error.offset <= len(text)
        return
    assert language.parse(to_text(tree)) == tree or len(to_text(tree)) > language.LENGTH_MAX
    assert len(fields(facts)) > 0
    with contextlib.suppress(NoValue):
        assert Condition(text).holds(facts) == Condition(to_text(tree)).holds(facts)


def regex(data: bytes) -> None:
    """A regex is one or is not, and a key matches or does not, whatever was asked before."""
    source = Source(data)
    is_extended, is_caseless = source.flag(), source.flag()
    key = source.octets(source.number(30))
    try:
        automaton = posix.parse(source.rest(), is_extended=is_extended, is_caseless=is_caseless)
    except posix.RegexError:
        return
    assert len(automaton.states) <= 2 * posix.STEPS_MAX + 2
    matcher = Matcher(automaton)
    found = [matcher.matches(part) for part in (key, key[1:], key)]
    assert found[0] is found[2] is Matcher(automaton).matches(key)
