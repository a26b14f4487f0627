"""lookup: what SMAR answers about an address, a client or a map, and why (M1 3.9.3, 3.12.2)."""
import json
import os
from collections.abc import Iterator
from typing import Any, Final

import click

from meta1g import __version__
from meta1g.cli import control
from meta1g.cli.ctl import DEFAULT_CONF
from meta1g.cli.queue_files import locate
from meta1g.conf.load import Config
from meta1g.mta.errors import LinkDown
from meta1g.proto.msg_ar import (
    CheckCert,
    CheckConnect,
    CheckEhlo,
    CheckGrey,
    CheckMail,
    CheckRcpt,
    MapLookup,
    Resolve,
    Want,
)
from meta1g.smtps.wants import wants_of

_CLIENT: Final = "127.0.0.1"
_ALL: Final = Want.ACCESS | Want.SESSION_CONF | Want.RCPT_CONF | Want.PROTECTED
_TIMEOUT: Final = 60.0  # seconds for a route
HELP: Final = """Ask SMAR as the SMTP server and the queue manager do, and see which map entries and DNS
answers led to its verdict.

\b
  meta1g lookup client 192.0.2.1             may it connect, may it relay?
  meta1g lookup sender user@example.org      MAIL FROM
  meta1g lookup rcpt user@example.org        RCPT TO; --sender and --client where they matter
  meta1g lookup route user@example.org       aliases, and the hosts that get the mail
  meta1g lookup ehlo name.example.org        the name in EHLO
  meta1g lookup grey user@example.org        would greylisting let it pass? nothing is written
  meta1g lookup cert ISSUER SUBJECT          may a client with this certificate relay?
  meta1g lookup map aliases KEY              one key of a map, by its name or its use

The answer is the server's own, only with what it rests on. Maps are as they were last read.
"""


@click.command(help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("what", type=click.Choice(
    ["client", "sender", "rcpt", "route", "ehlo", "grey", "cert", "map"], case_sensitive=False))
@click.argument("words", nargs=-1, required=True)
@click.option("-f", "conf", default=DEFAULT_CONF, show_default=True, metavar="CONF", help="configuration file")
@click.option("--client", default=_CLIENT, show_default=True, metavar="IP", help="the client's address")
@click.option("--sender", default="", metavar="ADDRESS", help="the envelope's sender [<>]")
@click.option("--json", "as_json", is_flag=True, help="for scripts")
@click.version_option(__version__, "-V", "--version")
def main(what: str, words: tuple[str, ...], conf: str, client: str, sender: str, as_json: bool) -> None:
    """Command line."""
    config = locate(conf)
    if len(words) != (2 if what in ("map", "cert") else 1):
        raise click.UsageError(f"{what} takes {'two words' if what in ('map', 'cert') else 'one word'}; see --help")
    question = _question(what, [_bare(word) for word in words], client, _bare(sender), _wants(config))
    path = os.path.join(config.queue_directory, config.queue_path(config.smar_socket))
    try:
        found = control.explain(path, question)
    except LinkDown as error:
        click.echo(f"lookup: {error}; does SMAR run, and may you read its socket?", err=True)
        raise SystemExit(os.EX_UNAVAILABLE) from None
    if as_json:
        click.echo(json.dumps(found))
        return
    for line in _lines(found):
        click.echo(line)


def _bare(word: str) -> str:
    return word.removeprefix("<").removesuffix(">")


def _wants(config: Config) -> int:
    """What the first SMTP server asks for; without one, all."""
    server = next((service.conf for service in config.services if service.keyword == "smtps"), None)
    return wants_of(server) if server else _ALL


def _question(what: str, words: list[str], client: str, sender: str, wants: int) -> Any:
    octets = words[-1].encode("utf-8", "surrogateescape")
    mail = sender.encode("utf-8", "surrogateescape")
    match what:
        case "client":
            return CheckConnect(wants, words[0])
        case "sender":
            return CheckMail(wants, False, client, octets)
        case "rcpt":
            return CheckRcpt(wants, client, mail, octets)
        case "route":
            return Resolve(_TIMEOUT, True, octets)
        case "ehlo":
            return CheckEhlo(octets)
        case "grey":
            return CheckGrey(bool(mail), client, mail, octets)
        case "cert":
            return CheckCert(words[0], words[1])
        case _:
            return MapLookup(words[0], octets.lower())


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield from _steps(found["steps"], "")
    if found["decided_by"]:
        yield f"decided by {found['decided_by']}"
    yield from _answer(found["answer"])


def _steps(steps: list[dict[str, Any]], indent: str) -> Iterator[str]:
    for step in steps:
        if "side_by_side" in step:
            for part in step["side_by_side"]:
                yield from _steps(part, indent + "  ")
        elif "map" in step:
            found = f"{step['found']}  {step['value']}" if "found" in step else step["result"]
            yield f"{indent}{step['map']}: {', '.join(step['keys'])} -> {found}"
        elif "dns" in step:
            records = ", ".join(step.get("records", [])) or step.get("reason", "")
            secure = ", secure" if step.get("secure") else ""
            yield f"{indent}DNS {step['dns']}: {step['status']} {records} (TTL {step.get('ttl', '-')}{secure})"
        elif "greylist" in step:
            yield f"{indent}greylist: {step['greylist']} -> {step['state']}"
        else:
            yield f"{indent}{step['note']}"


def _answer(answer: Any) -> Iterator[str]:
    if isinstance(answer, list):
        for target in answer:
            if target["code"]:
                yield f"<{target['address']}>: {target['code']} {target['estat']} {target['text']}"
            else:
                hops = " ".join(f"{hop['name']}[{hop['ip']}]:{hop['port'] or 25}" for hop in target["hops"])
                yield f"<{target['address']}>: {hops or 'local'} (TTL {target['ttl']})"
            for one in target["dane"]:
                secure = ", secure" if one["is_secure"] else ""
                yield f"  {one['host']} must be as TLSA says: {', '.join(one['records'])} (base {one['base']}{secure})"
    elif isinstance(answer, dict):
        yield ", ".join(f"{name}={value}" for name, value in answer.items() if value not in ("", 0))


if __name__ == "__main__":
    main()
