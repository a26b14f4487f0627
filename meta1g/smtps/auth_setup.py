"""From a section auth to what sessions need of it (M1 3.10 item 1)."""
from meta1g.conf.load import Config
from meta1g.conf.opt_auth import AuthConf
from meta1g.proc.log import Log
from meta1g.smtps.auth import Auth
from meta1g.smtps.cyrus import cyrus_file
from meta1g.smtps.dovecot import Dovecot
from meta1g.smtps.failures import Failures
from meta1g.smtps.passwords import PasswordMap
from meta1g.smtps.saslauthd import SOCKET, Saslauthd
from meta1g.smtps.tokens import TokenSocket


def auth_of(conf: AuthConf, config: Config, host: str, log: Log, waiting_max: int) -> Auth:
    """What sessions share; at most `waiting_max` of them wait after a failure. MtaError: a file can't be used."""
    made = Auth(conf, host, log, Failures(float(conf.failure_delay_max), waiting_max))
    cyrus = cyrus_file(conf.sasl_file, config)
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
