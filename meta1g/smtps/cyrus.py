"""Cyrus SASL's file for this application, where that looks for it (M1 3.10 item 1).

Files
    meta1.conf in one of these folders, the first counts, or the one that `SASL_file` names.
"""
import os
from typing import Final

from meta1g.conf.cyrusfile import CyrusFile, parse_cyrus
from meta1g.conf.kinds import PathValue
from meta1g.conf.load import Config
from meta1g.mta.errors import MtaError

_FOLDERS: Final = ("/etc/sasl2", "/etc/sasl", "/usr/lib/sasl2", "/usr/local/lib/sasl2")
_FILE: Final = "meta1.conf"
_SIZE_MAX: Final = 1 << 16  # octets


class AuthFileError(MtaError):
    """A file of Cyrus SASL that is named can't be read."""


def cyrus_file(named: PathValue | None, config: Config) -> CyrusFile:
    """What it says, or nothing if there is none or `named` is empty; AuthFileError."""
    if named is not None:
        return parse_cyrus(_read(config.map_path(named))) if named.text else CyrusFile()
    found = (os.path.join(folder, _FILE) for folder in _FOLDERS)
    path = next((path for path in found if os.access(path, os.R_OK)), None)
    return parse_cyrus(_read(path)) if path is not None else CyrusFile()


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_SIZE_MAX)
    except OSError as error:
        raise AuthFileError(f"{path}: {error.strerror}") from None
