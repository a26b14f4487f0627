"""dkim-key: make a key that signs mail, and say what belongs into DNS and into meta1.conf (M1 3.10 item 3.8)."""
import os
import pwd
import sys
from typing import Final, NoReturn

import click

from meta1g import __version__
from meta1g.mta import addr
from meta1g.proto.dkim.key import RSA_MAX, RSA_MIN, BadKey, Key, new_key, read_key, record
from meta1g.shim.newfile import create
from meta1g.shim.secretfile import SecretError, read_secret

_STRING_MAX: Final = 255  # octets of a string in a TXT record (RFC 1035 3.3)
_READER: Final = "meta1s"  # SMTPS's user (M1 2.4.1)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("file")
@click.option("-d", "--domain", required=True, help="The domain that signs.")
@click.option("-s", "--selector", required=True, help="A name for this key; the next one gets another.")
@click.option("--bits", type=click.IntRange(RSA_MIN, RSA_MAX), default=2048, show_default=True, help="Of an RSA key.")
@click.option("--ed25519", is_flag=True, help="An Ed25519 key: short and fast, but not all know them yet.")
@click.option("-u", "--user", help=f"As root: who gets the file, the user of smtps [{_READER} if there is one].")
@click.option("--show", is_flag=True, help="Make nothing, FILE is there: print the same about its key.")
@click.version_option(__version__, "-V", "--version")
def main(file: str, domain: str, selector: str, bits: int, ed25519: bool, user: str | None, show: bool) -> None:
    """Make a key for DKIM in FILE, which only its owner can read, and print the DNS record and the section for it.

    \b
    Examples:
      meta1g dkim-key /etc/meta1/s2026.key -d example.org -s s2026
      meta1g dkim-key /etc/meta1/e2026.key -d example.org -s e2026 --ed25519
      meta1g dkim-key /etc/meta1/s2026.key -d example.org -s s2026 --show

    Publish the record first, then add the section and say: meta1g-ctl reload. To change a key, make one with another
    selector; leave the old record in DNS until the last mail that it signed has arrived.
    """
    for option, name in (("--domain", domain), ("--selector", selector)):
        if not addr.is_domain(name.encode("utf-8", "replace")) or name.startswith("["):
            raise click.UsageError(f"{option}: expected a domain name, found {name}")
    try:
        key = read_key(read_secret(file)) if show else _make(file, 0 if ed25519 else bits, _owner(user))
    except (SecretError, BadKey) as error:
        _fail(os.EX_NOINPUT, f"{error}" if isinstance(error, SecretError) else f"{file}: {error}")
    except OSError as error:
        _fail(os.EX_CANTCREAT, f"{file}: {error.strerror}")
    text = record(key)
    strings = " ".join(f'"{text[at:at + _STRING_MAX]}"' for at in range(0, len(text), _STRING_MAX))
    method = " signature_method = ed25519-sha256;" if key.name == "ed25519" else ""
    click.echo(f"# DNS:\n{selector}._domainkey.{domain}. IN TXT ( {strings} )\n# meta1.conf, section DKIM_signing:\n"
               f'sign {{ domain = {domain}; selector = {selector}; keyfile = "{os.path.abspath(file)}";{method} }}')


def _make(path: str, bits: int, owner: tuple[int, int] | None) -> Key:
    text, key = new_key(bits)
    with create(path) as file:
        if owner is not None:
            os.fchown(file.fileno(), *owner)
        file.write(text)
    return key


def _owner(user: str | None) -> tuple[int, int] | None:
    if os.geteuid() != 0:
        return None
    try:
        found = pwd.getpwnam(user or _READER)
    except KeyError:
        if user:
            _fail(os.EX_NOUSER, f"user {user} does not exist")
        return None
    return found.pw_uid, found.pw_gid


def _fail(code: int, text: str) -> NoReturn:
    click.echo(f"dkim-key: {text}", err=True)
    sys.exit(code)
