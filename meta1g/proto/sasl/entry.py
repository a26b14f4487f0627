"""What a map of passwords says of a user: `{SCHEME}value`, several with blanks between; pure.

Rules
    {SCRYPT}$scrypt$ln=15,r=8,p=3$SALT$HASH  for PLAIN and LOGIN; base64 without `=` (RFC 7914, PHC's string format)
    {SCRAM-SHA-256}ITERATIONS,SALT,STORED,SERVER  in base64, as Dovecot writes it; also SCRAM-SHA-1. PLAIN and LOGIN too
    {PLAIN}password  for all mechanisms; it comes last and goes to the end.
    Schemes are written in capitals. Costs are bounded, so that an entry can't stop the server.
"""
import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Final

from meta1g.proto.sasl.scram import ITERATIONS_MAX, ITERATIONS_MIN, salted
from meta1g.proto.sasl.step import ScramKeys

SCRYPT: Final = (15, 8, 3)  # log2 of N, r, p: OWASP's password storage cheat sheet; 32 MB, 0.2 s
SCRAM_ITERATIONS: Final = 100_000  # 0.03 s, which a client spends too; RFC 7677 4 wants 4096, as of 2015
SALT_SIZE: Final = 16  # octets; RFC 8018 4.1 wants 8
HASHES: Final = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}
SCHEMES: Final = ("SCRYPT", *HASHES, "PLAIN")
_SCHEME: Final = re.compile(r"\{([A-Z0-9-]+)\}")
_PHC: Final = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")
_SCRYPT_MAX: Final = (17, 16, 16)  # 256 MB
_KEY_SIZE: Final = 32  # octets that scrypt makes


class BadEntry(ValueError):
    """An entry can't be read: what is wrong, without the secret."""


@dataclass(frozen=True, slots=True)
class Scrypt:
    """A password hashed by scrypt; `cost` as SCRYPT."""

    cost: tuple[int, int, int]
    salt: bytes
    hash: bytes

    def fits(self, password: str) -> bool:
        """Whether it is this password; takes its time, without the interpreter's lock."""
        return hmac.compare_digest(_scrypt(password, self.salt, self.cost, len(self.hash)), self.hash)


@dataclass(frozen=True, slots=True)
class Entry:
    """One user's secrets; `scram` by hashlib's name of the hash, `source` is what they were read from."""

    scrypt: Scrypt | None = None
    scram: dict[str, ScramKeys] = field(default_factory=dict)
    plain: str | None = None
    source: bytes = b""

    @property
    def mechanisms(self) -> frozenset[str]:
        """Those that can be used with it."""
        if self.plain is not None:
            return frozenset({"PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", *HASHES})
        return frozenset({"PLAIN", "LOGIN", *(name for name, short in HASHES.items() if short in self.scram)})

    def fits(self, password: str) -> bool:
        """Whether it is this password, prepared by SASLprep; takes its time."""
        if self.plain is not None:
            return hmac.compare_digest(self.plain.encode(), password.encode())
        if self.scrypt is not None:
            return self.scrypt.fits(password)
        return any(hmac.compare_digest(salted(password, name, keys.salt, keys.iterations).stored_key, keys.stored_key)
                   for name, keys in list(self.scram.items())[:1])

    def scram_keys(self, name: str, salt: bytes) -> ScramKeys | None:
        """The keys for a hash; made of a plain password with this salt, which takes its time."""
        keys = self.scram.get(name)
        if keys is None and self.plain is not None:
            return salted(self.plain, name, salt, ITERATIONS_MIN)
        return keys


def parse_entry(value: bytes) -> Entry:
    """The secrets in a map's value; BadEntry."""
    try:
        text = value.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise BadEntry("it is not UTF-8") from None
    scrypt: Scrypt | None = None
    scram: dict[str, ScramKeys] = {}
    while text:
        found = _SCHEME.match(text)
        if found is None:
            raise BadEntry("it does not begin with a scheme such as {SCRYPT}")
        scheme, rest = found[1], text[found.end():]
        if scheme == "PLAIN":
            return Entry(scrypt, scram, rest, value)
        word, _, text = rest.partition(" ")
        text = text.lstrip()
        if scheme == "SCRYPT":
            scrypt = _read_scrypt(word)
        elif scheme in HASHES:
            scram[HASHES[scheme]] = _read_scram(word, HASHES[scheme])
        else:
            raise BadEntry(f"scheme {scheme} is unknown; there are {', '.join(SCHEMES)}")
    if scrypt is None and not scram:
        raise BadEntry("it is empty")
    return Entry(scrypt, scram, None, value)


def new_secret(scheme: str, password: str, salt: bytes) -> str:
    """`{SCHEME}value` for a password that SASLprep has prepared."""
    if scheme == "PLAIN":
        return f"{{PLAIN}}{password}"
    if scheme == "SCRYPT":
        cost = ",".join(f"{name}={value}" for name, value in zip(("ln", "r", "p"), SCRYPT, strict=True))
        made = _scrypt(password, salt, SCRYPT, _KEY_SIZE)
        return f"{{SCRYPT}}$scrypt${cost}${_text(salt).rstrip('=')}${_text(made).rstrip('=')}"
    keys = salted(password, HASHES[scheme], salt, SCRAM_ITERATIONS)
    return (f"{{{scheme}}}{keys.iterations},{_text(keys.salt)},{_text(keys.stored_key)},{_text(keys.server_key)}")


def _read_scrypt(word: str) -> Scrypt:
    found = _PHC.fullmatch(word)
    if found is None:
        raise BadEntry("{SCRYPT} is followed by no $scrypt$ln=...,r=...,p=...$SALT$HASH")
    log_n, block, parallel = (int(text) for text in found.groups()[:3])
    cost = log_n, block, parallel
    if any(not 0 < value <= most for value, most in zip(cost, _SCRYPT_MAX, strict=True)):
        raise BadEntry("{SCRYPT} costs more than ln=17,r=16,p=16")
    made = _octets(found[5])
    if not 16 <= len(made) <= 64:
        raise BadEntry("{SCRYPT} has a hash of a wrong length")
    return Scrypt(cost, _octets(found[4]), made)


def _read_scram(word: str, name: str) -> ScramKeys:
    parts = word.split(",")
    if len(parts) != 4 or not parts[0].isdecimal() or len(parts[0]) > 9:
        raise BadEntry("SCRAM is followed by no ITERATIONS,SALT,STORED,SERVER")
    iterations = int(parts[0])
    if not ITERATIONS_MIN <= iterations <= ITERATIONS_MAX:
        raise BadEntry(f"SCRAM has less than {ITERATIONS_MIN} or more than {ITERATIONS_MAX} iterations")
    salt, stored, server = (_octets(part) for part in parts[1:])
    size = hashlib.new(name).digest_size
    if not salt or len(stored) != size or len(server) != size:
        raise BadEntry("SCRAM has keys of a wrong length")
    return ScramKeys(salt, iterations, stored, server)


def _scrypt(password: str, salt: bytes, cost: tuple[int, int, int], size: int) -> bytes:
    log_n, block, parallel = cost
    memory = 130 * (1 << log_n) * block + 260 * block * parallel  # RFC 7914 2: 128 octets each, and some room
    return hashlib.scrypt(password.encode(), salt=salt, n=1 << log_n, r=block, p=parallel, maxmem=memory, dklen=size)


def _text(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def _octets(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise BadEntry("it has bad base64") from None
