"""Whether servers will be able to use the keys and passwords that the configuration names, before they are told to."""
import contextlib
import os
from collections.abc import Iterator

from meta1g.conf.load import Config
from meta1g.conf.opt_smtpc import SmtpcConf
from meta1g.conf.opt_smtps import SmtpsConf
from meta1g.mcp.spawn import account
from meta1g.mta.errors import MtaError
from meta1g.shim.secretdb import SecretDb
from meta1g.smtps.cyrus import cyrus_file


def check_keys(config: Config) -> list[str]:
    """What is wrong with keys of DKIM and TLS and files of AUTH, as each process's user sees them; at most a line for
    each section."""
    found = []
    for service in config.services:
        if not isinstance(service.conf, SmtpsConf | SmtpcConf):
            continue
        try:
            with contextlib.chdir(config.queue_directory), _running_as(service.mcp.user, service.mcp.group):
                _try(service.conf, config)
        except (MtaError, OSError) as error:
            found.append(f"section {service.label}: {error}")
        except KeyError:
            continue  # MCP says which account is not there; who is not root can't look with another one's eyes
    return found


def _try(conf: SmtpsConf | SmtpcConf, config: Config) -> None:
    """Use what a section names; MtaError."""
    if isinstance(conf, SmtpsConf) and conf.dkim_signing is not None:
        from meta1g.smtps.keyfiles import read_signing  # noqa: PLC0415 - loads OpenSSL

        read_signing(conf.dkim_signing, config)
    if isinstance(conf, SmtpsConf) and conf.auth is not None:
        cyrus_file(conf.auth.sasl_file, config)
        if conf.auth.password_map:
            SecretDb(config.map_path(conf.auth.password_map))
    if isinstance(conf, SmtpcConf) and conf.auth is not None:
        SecretDb(config.map_path(conf.auth.password_map))
    if conf.tls is not None or any(feature.tls is not None for feature in conf.session_features):
        from meta1g.tls import setup  # noqa: PLC0415 - loads OpenSSL

        if isinstance(conf, SmtpcConf):
            setup.client_ends(conf.tls, conf.session_features, config.map_path)
        elif conf.tls is not None:
            setup.server_ends(conf.tls, conf.session_features, config.map_path)


@contextlib.contextmanager
def _running_as(user: str, group: str) -> Iterator[None]:
    """Have this account's rights meanwhile, if root may. KeyError."""
    who = account(user, group)
    if who is None:
        yield
        return
    gid, groups = os.getegid(), os.getgroups()
    os.setgroups(list(who.groups))
    os.setegid(who.gid)
    os.seteuid(who.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)
