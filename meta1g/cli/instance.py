"""Making an instance: folders, configuration, maps (`meta1g-ctl init`, design 7)."""
import grp
import os
import pwd
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from meta1g.cli.createmap import merge, read_entries
from meta1g.proc.hostname import own_name
from meta1g.shim import layout
from meta1g.shim.mapfile import write_map

_CONF: Final = """\
# Configuration of meta1g. meta1.conf(5) has all options; what is not here has its default.
# After a change: meta1g-ctl -f {conf} reload, which first checks it.
hostname = "{host}";
queue_directory = "{queue}";
log_directory = "{log}";
CDB_base_directory = "{queue}/";

# The address resolver: maps, DNS. Users of this machine have mailboxes; those in `aliases` exist, too.
smar {{
  map passwd {{ type = passwd; }}
  local_user_map {{ name = passwd; flags = {{ implicitly_match_detail }} }}
  start_action = wait; {smar_user}
  restart_dependencies = {{ smtps, qmgr }}
  path = "{program}"; arguments = "meta1g smar -f {conf}";
}}

# The queue manager: how long mail is kept, how often it is tried, how much at once.
qmgr {{
{limits}  start_action = wait; {qmgr_user}
  restart_dependencies = {{ smtps, smtpc, smar }}
  path = "{program}"; arguments = "meta1g qmgr -f {conf}";
}}

# The local mailer: Maildirs. Another one that speaks LMTP, Dovecot say, may take its place (docs/recipes.md).
lda {{
  maildir_base = "{maildir}";
  listen_socket {{ type = unix; path = lmtpsock; umask = 007; {lmtp_owner}}}
  start_action = accept; {lda_user}
  path = "{program}"; arguments = "meta1g lda -f {conf}";
}}

# The SMTP client: mail to other servers.
smtpc {{
  start_action = wait; {smtpc_user}
  path = "{program}"; arguments = "meta1g smtpc -f {conf}";
}}

# The SMTP server: who may connect and relay says the access map.
smtps {{
  flags = {{ 8bitmime, access, require_EHLO_before_MAIL }}
{tls}  {cdb_gid}listen_socket {{ type = inet; {address}port = {port}; }}
  start_action = pass; pass_fd_socket = smtps/smtpsfd; {smtps_user}
  path = "{program}"; arguments = "meta1g smtps -f {conf}";
}}
"""

_LIMITS: Final = """\
  # Connections from one address: MeTA1's defaults are 100 open ones and 100 a minute.
  smtps { connections_max = 10000; connection_rate_max = 10000000; }
"""

_TLS: Final = """\
  # A certificate of its own making: it encrypts, it proves nothing. For a better one see meta1.conf(5).
  tls {{ cert_file = "{etc}/cert.pem"; key_file = "{etc}/key.pem"; }}
"""

_MT: Final = """\
# Mailertable, see mailertable(5): where mail goes instead of where DNS says.
localhost lmtp:
{host} lmtp:
"""

_ACCESS: Final = """\
# Access map, see access(5). After a change: meta1g createmap -F {etc}/access.db < {etc}/access
{local}"""
_LOCAL_OK: Final = """\
# Clients on this machine pass the checks of sender addresses, but may not relay; to let them,
# write quick:relay instead of quick:ok.
cltaddr:127.               quick:ok
cltaddr:0:0:0:0:0:0:0:1    quick:ok
"""
_LOCAL_RELAY: Final = """\
# Programs on this machine send mail anywhere; quick:ok instead of quick:relay would not let them.
cltaddr:127.               quick:relay
cltaddr:0:0:0:0:0:0:0:1    quick:relay
"""

_ALIASES: Final = """\
# Aliases of local addresses, see aliases(5). After a change:
# meta1g createmap -F {etc}/aliases.db < {etc}/aliases
postmaster:     local:
"""


class InitError(Exception):
    """An instance can't be made: what is wrong and how to mend it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to make: `user` None means the caller's own account, "" the meta1 users.

    `address` empty listens on all of the host's; `limits` goes into the section qmgr, `local` into the access map; with
    `has_tls` it has a certificate.
    """

    base: str
    port: int
    host: str
    user: str | None
    etc: str
    queue: str
    log: str
    maildir: str
    address: str = "address = 127.0.0.1; "
    limits: str = _LIMITS
    has_tls: bool = True
    local: str = _LOCAL_OK
    names: Mapping[str, str] = field(default_factory=dict)
    destdir: str = ""

    @property
    def conf(self) -> str:
        """Path of the configuration file."""
        return os.path.join(self.etc, "meta1.conf")


def _plan(base: str, port: int, host: str, user: str | None, *, has_tls: bool) -> Plan:
    base = os.path.abspath(base)
    return Plan(base, port, host, user, f"{base}/etc", f"{base}/spool", f"{base}/log", f"{base}/maildir",
                has_tls=has_tls)


def plan(base: str, port: int, host: str | None, user: str | None, *, has_tls: bool = True) -> Plan:
    """Decide about users; InitError if one is missing."""
    name = host or own_name()
    if os.geteuid() != 0:
        if user and user != pwd.getpwuid(os.geteuid()).pw_name:
            raise InitError(f"only root can make an instance for user {user}; run it as {user}")
        return _plan(base, port, name, None, has_tls=has_tls)
    if user is None:
        try:
            layout.owners(None)
            user = ""
        except KeyError:
            user = "nobody"
    else:
        try:
            pwd.getpwnam(user)
        except KeyError:
            raise InitError(f"user {user} does not exist; create it or choose another with --user") from None
    return _plan(base, port, name, user, has_tls=has_tls)


def make(what: Plan) -> None:
    """Create the folders, the configuration and the maps. InitError."""
    if any(character in what.base for character in '"\\ \n'):
        raise InitError(f"{what.base}: a folder's name may not hold blanks, quotes or backslashes; choose another")
    if os.path.exists(what.conf):
        raise InitError(f"{what.conf} is there already; remove {what.base} or choose another folder")
    who = layout.owners(what.user or None) if what.user is not None else None
    try:
        os.makedirs(what.base, 0o755, exist_ok=True)
        if who is not None:
            _check_reach(what, who)
        for folder in (what.etc, what.queue, what.log):
            layout.make_folder(folder, 0o755, None)
        layout.make_folder(what.maildir, 0o700, who["meta1"] if who else None)
        layout.create("queue", what.queue, who)
        _write_all(what, who)
    except OSError as error:
        raise InitError(f"{error.filename or what.base}: {error.strerror}") from None


def make_configuration(
    etc: str, queue: str, log: str, who: layout.Owner, names: Mapping[str, str], destdir: str
) -> bool:
    """The configuration of an installation: port 25, all addresses, limits as MeTA1's; False if there is one.

    `names` are what the accounts are called, `destdir` is where paths lie until a package is unpacked.
    """
    what = Plan(queue, 25, own_name(), "", etc, queue, log, f"{queue}/maildir", "", "", local=_LOCAL_RELAY, names=names,
                destdir=destdir)
    if os.path.exists(destdir + what.conf):
        return False
    if not destdir:
        _check_reach(what, who)
    layout.make_folder(destdir + what.maildir, 0o700, who["meta1"])
    _write_all(what, who)
    return True


def _write_all(what: Plan, who: layout.Owner | None) -> None:
    etc = what.destdir + what.etc
    _write(os.path.join(etc, "mt"), _MT.format(host=what.host), who, "meta1m")
    for name, text in (("access", _ACCESS), ("aliases", _ALIASES)):
        _write(os.path.join(etc, name), text.format(etc=what.etc, local=what.local), who, "meta1m")
        _create_map(os.path.join(etc, name), who)
    if what.has_tls:
        from meta1g.cli import selfsigned  # noqa: PLC0415 - loads OpenSSL

        selfsigned.write(etc, what.host, (who["meta1s"][0], who["meta1c"][1]) if who else None)
    _write(what.destdir + what.conf, _CONF.format(**_values(what, who)), who, "meta1")


def _values(what: Plan, who: layout.Owner | None) -> dict[str, object]:
    program = program_path().removeprefix(what.destdir)
    values: dict[str, object] = {
        "queue": what.queue, "log": what.log, "maildir": what.maildir, "host": what.host, "port": what.port,
        "address": what.address, "limits": what.limits, "program": program, "conf": what.conf,
        "cdb_gid": f"CDB_gid = {who['meta1c'][1]};\n  " if who else "", "lmtp_owner": "",
        "tls": _TLS.format(etc=what.etc) if what.has_tls else "",
    }
    for service, account in layout.ACCOUNTS.items():
        name = what.user or what.names.get(account, account)
        values[f"{service}_user"] = f"user = {name};" if who else ""
    if who:
        user = what.user or what.names.get("meta1", "meta1")
        values["lmtp_owner"] = f"user = {user}; group = {grp.getgrgid(who['meta1c'][1]).gr_name}; "
    return values


def program_path() -> str:
    """The installed `meta1g` beside this interpreter. InitError if there is none."""
    path = os.path.join(os.path.realpath(os.path.dirname(sys.executable)), "meta1g")
    if not os.path.exists(path):
        raise InitError(f"{path} is missing; install the package with pip, or run make in the checkout")
    return path


def _write(path: str, text: str, who: layout.Owner | None, owner: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
    if who is not None:
        os.chown(path, *who[owner])
    os.chmod(path, 0o644)


def _create_map(path: str, who: layout.Owner | None) -> None:
    with open(path, "rb") as file:
        entries, _, _ = merge(read_entries(file), warn=False, replace=False)
    write_map(path + ".db", entries.items(), mode=0o644, owner=who["meta1m"] if who else None)


def _check_reach(what: Plan, who: layout.Owner) -> None:
    """The daemons must be able to run the interpreter, read the package and reach the instance."""
    uid, gid = who["meta1m"]
    script = "import os, sys, meta1g.proc.start; os.listdir(sys.argv[1])"
    python = os.path.join(os.path.dirname(program_path()), os.path.basename(sys.executable))
    try:
        done = subprocess.run(
            [python, "-c", script, what.base], user=uid, group=gid, extra_groups=[], cwd="/",
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        reason = done.stderr.strip().splitlines()[-1] if done.returncode else ""
    except OSError as error:
        reason = str(error)
    if reason:
        user = pwd.getpwuid(uid).pw_name
        raise InitError(
            f"user {user} can't run {python} or read {what.base}: {reason}\n"
            "Use a Python that all users may execute (/usr/bin/python3), install the package where they may read it, "
            "and choose a folder that they can reach (not below /root or a folder of mode 700).")
