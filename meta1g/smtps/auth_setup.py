"""From a section auth to what sessions need of it (M1 3.10 item 1).

Files
    meta1.conf of Cyrus SASL, where that looks for it.
"""
import os
from typing import Final

from meta1g.conf.cyrusfile import CyrusFile, parse_cyrus
from meta1g.conf.kinds import PathValue
from meta1g.conf.load import Config
from meta1g.conf.opt_auth import AuthConf
from meta1g.mta.errors import MtaError
from meta1g.proc.log import Log
from meta1g.smtps.auth import Auth
from meta1g.smtps.dovecot import Dovecot
from meta1g.smtps.failures import Failures
from meta1g.smtps.passwords import PasswordMap
from meta1g.smtps.saslauthd import SOCKET, Saslauthd
from meta1g.smtps.tokens import TokenSocket

_FOLDERS: Final = ("/etc/sasl2", "/etc/sasl", "/usr/lib/sasl2", "/usr/local/lib/sasl2")
_FILE: Final = "meta1.conf"
_SIZE_MAX: Final = 1 << 16  # octets


class AuthFileError(MtaError):
    """A file of Cyrus SASL that is named can't be read."""


def auth_of(conf: AuthConf, config: Config, host: str, log: Log, waiting_max: int) -> Auth:
    """What sessions share; at most `waiting_max` of them wait after a failure. MtaError: a file can't be used."""
    made = Auth(conf, host, log, Failures(float(conf.failure_delay_max), waiting_max))
    cyrus = _cyrus_file(conf.sasl_file, config)
    words = conf.mechanisms.upper().replace(",", " ").split()
    if words or cyrus.mech_list is not None:
        made.listed = frozenset(words or cyrus.mech_list or ())
    if conf.token_socket:
        made.owners = TokenSocket(config.queue_path(conf.token_socket), conf.timeout)
    if conf.password_map:
        made.keeper = PasswordMap(config.map_path(conf.password_map), conf.user_realm, host, log)
    elif conf.dovecot_socket:
        made.elsewhere = Dovecot(config.queue_path(conf.dovecot_socket), conf.timeout)
    elif conf.saslauthd_socket or cyrus.pwcheck_method == "saslauthd":
        path = config.queue_path(conf.saslauthd_socket) if conf.saslauthd_socket else SOCKET
        made.keeper = Saslauthd(path, conf.user_realm or "", conf.timeout)
    elif made.owners is None:
        log.warning("func=smtps, option=auth, status=nobody has a password: set password_map, dovecot_socket or "
                    "saslauthd_socket; only EXTERNAL is offered")
    return made


def _cyrus_file(named: PathValue | None, config: Config) -> CyrusFile:
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
