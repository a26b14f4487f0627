"""Keys for DKIM, and a DNS that has their records."""
from pathlib import Path

import dkim

from meta1g.proto.dkim.key import Key, new_key, record


class Keys:
    """Keys in files, by selector; RSA 2048, or Ed25519 for the selector `ed`."""

    def __init__(self, folder: Path, *selectors: str) -> None:
        self.folder = folder
        self._keys: dict[str, Key] = {}
        for selector in selectors:
            text, self._keys[selector] = new_key(0 if selector == "ed" else 2048)
            path = self.path(selector)
            path.write_bytes(text)
            path.chmod(0o600)

    def path(self, selector: str) -> Path:
        return self.folder / f"{selector}.key"

    def section(self, selector: str, options: str = "", domain: str = "example.org") -> str:
        """A section `sign`."""
        method = "signature_method = ed25519-sha256;" if selector == "ed" else ""
        return (f'sign {{ domain = {domain}; selector = {selector}; keyfile = "{self.path(selector)}"; '
                f"{method} {options} }}")

    def record(self, selector: str) -> str:
        """The TXT record."""
        return record(self._keys[selector])

    def dns(self, name: bytes | str, timeout: float = 5) -> bytes:
        """What DNS says, as dkimpy asks."""
        text = name.decode() if isinstance(name, bytes) else name
        selector, middle, _ = text.split(".", 2)
        assert middle == "_domainkey"
        return self.record(selector).encode()

    def verified(self, message: bytes) -> list[str]:
        """The selectors of all signatures in a message, each of which dkimpy has verified; else DKIMException."""
        checker = dkim.DKIM(message)
        count = sum(name.lower() == b"dkim-signature" for name, _ in checker.headers)
        found = []
        for index in range(count):
            if not checker.verify(index, dnsfunc=self.dns):
                raise dkim.ValidationError(f"signature {index} does not verify")
            found.append(checker.signature_fields[b"s"].decode())
        return found
