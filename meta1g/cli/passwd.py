"""passwd: a line for the map of passwords that AUTH looks at (M1 3.10 item 1)."""
import os
import sys

import click

from meta1g import __version__
from meta1g.proto.sasl.entry import SALT_SIZE, SCHEMES, new_secret
from meta1g.proto.sasl.passwords import PASSWORD_MAX
from meta1g.proto.sasl.prep import Unprepared, prepared
from meta1g.proto.sasl.step import AuthFailed, name_of


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("user")
@click.option("-s", "--scheme", "schemes", multiple=True, type=click.Choice(SCHEMES), default=("SCRYPT",),
              show_default=True, help="How the password is kept; may be given several times.")
@click.version_option(__version__, "-V", "--version")
def main(user: str, schemes: tuple[str, ...]) -> None:
    """Print the line for USER (a name, or name@realm) that belongs into the text of the map password_map.

    \b
    Examples:
      meta1g passwd joe >> /etc/meta1/passwords
      (umask 077; meta1g createmap -F /etc/meta1/passwords.db < /etc/meta1/passwords)
      chown meta1s /etc/meta1/passwords.db       # once; createmap keeps the owner

    The password is asked for, or is the first line of standard input. SCRYPT serves PLAIN and LOGIN, the others serve
    the mechanism of their name too. CRAM-MD5 and DIGEST-MD5 need PLAIN, which is no protection if the file gets lost.
    A server offers a mechanism if all users have what it needs: give all the same schemes.
    """
    password = _password()
    try:
        name = name_of(user.encode("utf-8", "surrogateescape"))
        text = prepared(password.encode("utf-8", "surrogateescape"))
    except AuthFailed:
        raise click.UsageError(f"{user} can't be a user's name") from None
    except Unprepared:
        raise click.UsageError("the password has characters that can't be in one (RFC 4013)") from None
    if not text or len(text.encode()) > PASSWORD_MAX or text != text.strip():
        raise click.UsageError(f"a password has 1 to {PASSWORD_MAX} octets, and no blanks at its ends")
    if any(char.isspace() for char in name):
        raise click.UsageError("a map's key has no blanks")
    ordered = sorted(set(schemes), key=SCHEMES.index)  # PLAIN goes to the end of the line
    click.echo(f"{name}\t{' '.join(new_secret(scheme, text, os.urandom(SALT_SIZE)) for scheme in ordered)}")


def _password() -> str:
    if sys.stdin.isatty():
        found: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return found
    return sys.stdin.readline().rstrip("\r\n")


if __name__ == "__main__":
    main()
