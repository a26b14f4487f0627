"""Global options, and those that every module has (M1 3.4, 3.5)."""
from dataclasses import dataclass

from meta1g.conf import kinds
from meta1g.conf.kinds import PathValue
from meta1g.conf.spec import opt

FACILITIES = ("auth", "cron", "daemon", "lpr", "mail", "news", "user", "uucp",
              "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7")
SYSLOG_OPTIONS = ("pid", "ndelay", "cons", "nowait", "perror")
LOG_FORMATS = {
    "fields": "name=value, with commas between (M1 10.4)",
    "json": "a JSON object in each line: time, prog, and the fields as texts",
}
LOOKUPS = {  # M1 3.12.1
    "full_address": "the whole address",
    "detail_plus": "user++@domain: any detail that is not empty",
    "detail_star": "user+*@domain: any detail",
    "star": "user*@domain: with a detail or without",
    "domain": "the domain",
    "dotsubdomain": "the domains above it, with a leading dot",
    "dot": "a single dot, for all the rest",
}


@dataclass(frozen=True)
class GlobalConf:
    """What several components use."""

    hostname: str = opt("hostname", kinds.DOMAIN, "", m1="3.4(1)",
                        help="name of this host; default: what the system says")
    queue_directory: str = opt("queue_directory", kinds.STRING, "/var/spool/meta1", m1="", source="M1 2.4, MTAQDIR",
                               help="main queue directory, in which meta1g-ctl starts mcp")
    log_directory: str = opt("log_directory", kinds.STRING, "/var/log/meta1", m1="", source="M1 8.2(3)",
                             help="folder of log files, which meta1g-ctl gives to mcp")
    log_format: str = opt("log_format", kinds.enum(*LOG_FORMATS), "fields", m1="", source="new in meta1g",
                          about=LOG_FORMATS, help="how lines of logs are written")
    cdb_base_directory: str = opt("CDB_base_directory", kinds.PREFIX, "", m1="3.4(2)",
                                  help="base directory of CDB, empty or with a trailing slash")
    cdb_journal: bool = opt("CDB_journal", kinds.BOOLEAN, True, m1="", source="new in meta1g",
                            help="keep fresh content in a shared journal instead of a file for each message")
    smar_socket: PathValue = opt("SMAR_socket", kinds.PATH, PathValue("qmsmar/smar_sock"), m1="3.4(3)",
                                 help="socket of the address resolver", source="folder of M1 2.4.1")
    smtpc_socket: PathValue = opt("SMTPC_socket", kinds.PATH, PathValue("qmsmtpc/smtpc_sock"), m1="3.4(4)",
                                  help="socket between SMTPC and QMGR", source="folder of M1 2.4.1")
    smtps_socket: PathValue = opt("SMTPS_socket", kinds.PATH, PathValue("qmsmtps/smtps_sock"), m1="3.4(5)",
                                  help="socket between SMTPS and QMGR", source="folder of M1 2.4.1")


@dataclass(frozen=True)
class LogConf:
    """Where a module logs; without this section to standard output, which MCP keeps in a file."""

    facility: str = opt("facility", kinds.enum(*FACILITIES), "", m1="3.5(1.1)", help="syslog facility")
    ident: str = opt("ident", kinds.STRING, "", m1="3.5(1.2)", help="name in syslog; default: the module's")
    options: frozenset[str] = opt("options", kinds.flags(*SYSLOG_OPTIONS), frozenset(), m1="3.5(1.3)",
                                  help="options of openlog(3)")


LOG_LEVEL = kinds.count(0, 100)
NO_DEBUG = "only C code that was compiled for debugging had it; log_level says how much is logged here"
