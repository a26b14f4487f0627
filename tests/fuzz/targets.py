"""The targets by name: functions of octets that raise nothing; and the words that their languages have."""
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.fuzz import on_milter, on_parsers, on_pmilter, on_sasl, on_server, on_signing
from tests.lib import transcript

CORPUS: Final = Path(__file__).parent / "corpus"
TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "server": on_server.server, "dialog": on_server.dialog, "content": on_parsers.content,
    "normal": on_parsers.normal,
    "chunks": on_parsers.chunks, "header": on_parsers.header, "command": on_parsers.command,
    "parameters": on_parsers.parameters, "proxy": on_parsers.proxy, "xclient": on_parsers.xclient,
    "smtpp": on_parsers.smtpp,
    "condition": on_parsers.condition, "regex": on_parsers.regex, "signed": on_signing.signed,
    "author": on_signing.author, "sasl": on_sasl.sasl, "servers": on_sasl.servers,
    "milter": on_milter.milter, "fields": on_milter.fields,
    "pmilter": on_pmilter.pmilter_frames, "policy": on_pmilter.policy_calls, "words": on_pmilter.milter_words,
}
_CONTENT: Final = (b"\0", b"\1", b"\r\n.\r\n", b"\r\n", b"\r", b"\n", b".", b"x")
WORDS: Final[dict[str, tuple[bytes, ...]]] = {
    "server": (
        b"\0" * 8, b"\xff" * 8, b"\0", b"EHLO c\r\n", b"MAIL FROM:<>\r\n", b"RCPT TO:<b@local.test>\r\n", b"DATA\r\n",
        b"BDAT 3\r\n", b"BDAT 2 LAST\r\n", b"\r\n.\r\n", b"\r", b"\n", b".", b"QUIT\r\n", b"RSET\r\n",
        b"XCLIENT NAME=x\r\n",
        b"VRFY x\r\n", b"MAIL FROM:<> BODY=BINARYMIME\r\n", b"MAIL FROM:<\xc3\xa4@c> SMTPUTF8\r\n"),
    "dialog": (b"\0", b"\1", b"\2"),
    "content": _CONTENT,
    "normal": _CONTENT,
    "chunks": _CONTENT,
    "header": (b"\1", b"Received: x\r\n", b"Message-ID: <x@y>\r\n", b"\r\n", b"\r", b"\n", b"received :", b"<", b">",
    b" "),
    "command": (
        b"\0", b"\xff", b"MAIL FROM:<", b"RCPT TO:<", b"a", b"@", b'"', b"\\", b">", b" ", b"SIZE=1", b"[IPv6:::1]",
        b"@x:",
        b"[192.0.2.1]", b".", b"-", b"\xc3\xa4", b"EHLO ", b"BDAT ", b" LAST", b"1", b"postmaster", b"XCLIENT ",
        b"VRFY "),
    "parameters": (
        b"\0", b"\1", b"SIZE=", b"1", b" ", b"NOTIFY=", b"NEVER", b",", b"SUCCESS", b"DELAY", b"ORCPT=rfc822;",
        b"+2B", b"ENVID=",
        b"RET=FULL", b"\xc3\xa4", b"ORCPT=utf-8;", b"\\x{E4}", b"SMTPUTF8", b"BODY=7BIT", b"BODY=BINARYMIME", b"XVERP"),
    "proxy": (
        b"PROXY ", b"TCP4 ", b"TCP6 ", b"192.0.2.1 ", b"::1 ", b"25", b" ", b"\r\n", b"UNKNOWN", b"%",
        b"::ffff:1.2.3.4 ",
        b"\r\n\r\n\0\r\nQUIT\n", b"\x21\x11", b"\x21\x21", b"\x20\0", b"\0\x0c", b"\0\x24", b"\0" * 12),
    "smtpp": (
        b"\0", b"\1", b"\2", b"SMTPP1 ", b"CONNECT ", b"CLIENT ", b"192.0.2.1 ", b"::1 ", b"25", b" - ", b"-", b" ",
        b"OK", b"FAILED ", b"x", b"%", b"::ffff:1.2.3.4 "),
    "xclient": (
        b"\0", b"\xff", b"NAME=", b"ADDR=", b"HELO=", b"IDENT=", b"192.0.2.1", b"::1", b"IPV6:", b"[UNAVAILABLE]",
        b"+0D",
        b"+C3+A4", b" ", b"%"),
    "condition": (
        b"\0" * 5, b"mail ", b"hops ", b"== ", b"=~ ", b"1 ", b'"a" ', b"&& ", b"|| ", b"! ", b"( ", b") ", b"/ ",
        b"- ", b"* ",
        b"strcmp", b"match", b", ", b"< ", b"message_size ", b"rcpt ", b"/*", b"*/", b"9223372036854775807 "),
    "signed": (*_CONTENT, b"\2", b"\3", b"From: a@b\r\n", b"Subject:", b" ", b"\t", b":", b"\r\n\r\n", b"\xe4"),
    "author": (b"a", b"@", b".", b"<", b">", b'"', b"\\", b"(", b")", b",", b";", b":", b" ", b"\r\n ", b"\xc3\xa4"),
    "sasl": (
        *(bytes((number,)) for number in range(9)), b"\0u\0p", b"n,,n=u,r=", b"c=biws,r=", b",p=", b"xn", b"a=", b",",
        b"=2C", b"user=u\x01auth=Bearer t\x01\x01", b'username="u",', b'nonce="n",', b'cnonce="x",', b"nc=00000001,",
        b'digest-uri="smtp/h",', b"response=0", b"charset=utf-8", b"realm=r,", b'"', b"\\", b"\xff", b"\x01"),
    "servers": (
        b"{SCRYPT}", b"{PLAIN}", b"{SCRAM-SHA-1}", b"$scrypt$", b"ln=1,r=8,p=1$", b"4096,", b"QUFB", b"=", b" ", b"{",
        b"}", b"MECH\t", b"OK\t1\t", b"FAIL\t1\t", b"CONT\t1\t", b"user=", b"\t", b"\x01", b"temp", b"\xff"),
    "pmilter": (
        b"\0", b"\1", b"\0\0\0", b"\1\0\0\0", b"\x08\0\0\0", b"\x11\0\0\0\4\0\1\0\0\0", b"\2\0", b"\5\0",
        b"\x08\0\0\0\x0a\0\1\0\0\0", b"\5\0\0\0\0\0\0\0", b"\x0d\0\0\0\x0b\0\1\0\0\0", b"x", b"\xff" * 8),
    "policy": (*(bytes((number,)) for number in range(9)), b"\x0aa@b.c", b"550 5.7.1 No", b"\x0c550 5.7.1 No", b"\r\n"),
    "words": (*(bytes((number,)) for number in range(9)), b"\x0eX: 1\r\n folded", b"550 5.7.1 No\r\n", b"<a@b.c>",
              b"\x05a@b.c", b"RET=HDRS", b"\r\n\r\n", b"X-A: ", b"@", b"-", b"250 2.0.0 Yes\r\n"),
    "milter": (
        b"\0\0\0\1", b"\0\0\0\x0d", b"\0\0\0\x08", b"\0", b"\1", b"a", b"b", b"c", b"e", b"f", b"h", b"i", b"m", b"p",
        b"q", b"r", b"s", b"t", b"y", b"O", b"+", b"-", b"2", b"4", b"550", b"421 ", b"5.7.1", b"%%", b"\r\n", b"<a@b>",
        b"\0\0\0\6", b"\xff", b"{i}"),
    "fields": (
        b"\0", b"\1", b"\2", b"\3", b"\x04", b"\x08", b"A", b"B", b":", b" ", b"\t", b"\r", b"\n", b".", b"Received",
        b"A: x\r\n"),
    "regex": (
        b"\0", b"\1", b"a", b"(", b")", b"|", b"*", b"+", b"{2,3}", b"[", b"]", b"^", b"$", b"\\", b"[:alpha:]",
        b"[.", b".]", b"-",
        b".", b"\\<", b"\\w", b"\\{", b"\\("),
}


def corpus(name: str) -> list[bytes]:
    """What is kept of a target: a line each, in hexadecimal."""
    path = CORPUS / f"{name}.hex"
    return [bytes.fromhex(line) for line in path.read_text().split()] if path.exists() else []


def seeds(name: str) -> list[bytes]:
    """What the transcripts have for a target to begin with."""
    said = [b"".join(step.octets for step in dialog.steps if step.mark in ("C:", "C-"))
            for dialog in transcript.dialogs()]
    lines = {line for octets in said for line in octets.split(b"\r\n") if len(line) < 300}
    return {
        "server": [b"\xff" * 6 + b"\x20\0\0" + octets for octets in said if len(octets) < 2000],
        "command": [b"\x08" + line for line in sorted(lines)],
        "parameters": [b"\1" + line.partition(b"> ")[2] for line in sorted(lines) if b"> " in line],
        "proxy": [octets for octets in said if octets.startswith((b"PROXY", b"\r\n\r\n"))],
        "xclient": [line[7:] for line in sorted(lines) if line.startswith((b"XCLIENT ", b"XFORWARD "))],
    }.get(name, [])
