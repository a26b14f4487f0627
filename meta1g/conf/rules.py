"""Rules that concern several options of a section at once; pure."""
import dataclasses
import re
from typing import Any, Final

from meta1g.conf.condition import ConditionError, parse, place
from meta1g.conf.errors import ConfError, Position
from meta1g.conf.expression import IDENTIFIERS, STAGES, too_early
from meta1g.conf.opt_qmgr import QmgrConf
from meta1g.conf.opt_smar import MAP_OPTIONS, MapConf, SmarConf
from meta1g.conf.opt_smtps import DkimConf, SmtpsConf
from meta1g.conf.opt_tls import SocketConf
from meta1g.conf.parse import Option, Section
from meta1g.conf.spec import joined

_FIELD_NAME: Final = re.compile(r"[!-9;-~]+:?")  # RFC 5322 3.6.8


def check_section(section: Section, conf: Any, errors: list[ConfError]) -> None:
    """The rules of a module's section."""
    if isinstance(conf, QmgrConf):
        _check_qmgr(section, conf, errors)
    elif isinstance(conf, SmarConf):
        _check_smar(section, conf, errors)
    elif isinstance(conf, SmtpsConf):
        _check_dkim(section, conf, errors)
        _check_auth(section, conf, errors)
        for entry in section.entries:
            if isinstance(entry, Section) and entry.keyword.lower() == "check":
                _check_stage(entry, errors)
            elif isinstance(entry, Section) and entry.keyword.lower() == "milter":
                milter = next((found for found in conf.milter if found.name == entry.name), None)
                _check_socket(entry, milter.socket if milter is not None else None, errors)
            elif isinstance(entry, Section) and entry.keyword.lower() == "policy_milter":
                _check_socket(entry, conf.policy_milter.socket if conf.policy_milter is not None else None, errors)


def _check_qmgr(section: Section, conf: QmgrConf, errors: list[ConfError]) -> None:
    def complain(name: str, message: str) -> None:
        errors.append(ConfError(_where(section, name), message))

    if conf.retry_delay_min > conf.retry_delay_max:
        complain("retry_delay_min", "retry_delay_min is greater than retry_delay_max")
    if conf.disk_space_ok <= conf.disk_space_min:
        complain("disk_space_ok", "disk_space_ok must be greater than disk_space_min")
    part = _part(section, "smtpc")
    given = {e.name.lower() for e in part.entries if isinstance(e, Option)} if part is not None else set()
    if "initial_connections" in given and conf.smtpc.initial_connections > conf.smtpc.connections_max:
        complain("smtpc", "initial_connections is greater than connections_max")
    if conf.iqdb.hash_table_entries <= conf.iqdb.cache_entries_max:
        complain("IQDB", "hash_table_entries must be greater than cache_entries_max")


def _check_stage(section: Section, errors: list[ConfError]) -> None:
    """A check's name is a stage, and its condition asks for nothing that comes later (M1 8.5.1)."""
    if section.name not in STAGES:
        errors.append(ConfError(section.at, f"section check needs a stage as its name, found {section.name or 'none'}",
                                f"one of {', '.join(STAGES)}"))
        return
    for option in section.entries:
        if not isinstance(option, Option) or option.name.lower() != "condition" or not option.is_condition:
            continue
        try:
            tree = parse(option.values[0].text)
        except ConditionError:
            continue  # which has been said
        for name in too_early(tree, section.name):
            *others, last = STAGES[STAGES.index(IDENTIFIERS[name.name].stage):]
            needed = f"{', '.join(others)} or {last}" if others else last
            errors.append(ConfError(place(option.values[0], name.offset),
                                    f"condition: {name.name} has no value yet in check {section.name}",
                                    f"it needs check {needed}"))


def _check_socket(section: Section, socket: SocketConf | None, errors: list[ConfError]) -> None:
    """A socket to talk to is said in full (M1 3.7 item 2)."""
    part, label = _part(section, "socket"), f"{section.keyword} {section.name}".rstrip()
    if part is None or socket is None:
        errors.append(ConfError(section.at, f"section {label} needs a section socket",
                                "socket { type = unix; path = P; } or { type = inet; address = A; port = N; }"))
        return
    if not socket.type:
        return  # which has been said
    for option in ("path",) if socket.type == "unix" else ("address", "port"):
        if not getattr(socket, option):
            errors.append(ConfError(part.at, f"{label}: a socket of type {socket.type} needs {option}"))
    if socket.type != "unix" and socket.address and (socket.type == "inet6") != (":" in socket.address):
        errors.append(ConfError(part.at, f"{label}: address {socket.address} does not fit type {socket.type}"))


def _check_auth(section: Section, conf: SmtpsConf, errors: list[ConfError]) -> None:
    part = _part(section, "auth")
    if part is None or conf.auth is None:
        return
    sources = [name for name in ("password_map", "dovecot_socket", "saslauthd_socket") if getattr(conf.auth, name)]
    if len(sources) > 1:
        errors.append(ConfError(_where(part, sources[1]), f"auth has both {sources[0]} and {sources[1]}",
                                "leave one of them out"))


def _check_dkim(section: Section, conf: SmtpsConf, errors: list[ConfError]) -> None:
    part = _part(section, "dkim_signing")
    if part is None or conf.dkim_signing is None:
        return
    if not conf.dkim_signing.sign:  # M1 3.10(3.8)
        errors.append(ConfError(part.at, "DKIM_signing needs at least one section sign",
                                "add sign { domain = D; selector = S; keyfile = FILE; }"))
    seen: set[tuple[str, str]] = set()
    signs = [e for e in part.entries if isinstance(e, Section) and e.keyword.lower() == "sign"]
    for sign, entry in zip(conf.dkim_signing.sign, signs, strict=True):
        key = sign.from_.lower(), sign.signature_method or conf.dkim_signing.signature_method
        if key in seen:
            errors.append(ConfError(
                entry.at, f"two sections sign have {'from ' + sign.from_ if sign.from_ else 'no from'}",
                "all but one need a from of their own (M1 3.10)"))
        seen.add(key)
        if sign.from_.startswith("@"):
            errors.append(ConfError(_where(entry, "from"), f"from: expected an address or domain, found {sign.from_}",
                                    f"write {sign.from_[1:]} (M1 3.10)"))
    _check_signed(part, conf.dkim_signing, errors)


def _check_signed(part: Section, conf: DkimConf, errors: list[ConfError]) -> None:
    """Names of fields are such, From is signed (RFC 6376 5.4), and what is over-signed is not skipped."""
    for option in ("sign_header", "skip_header", "over_sign_headers"):
        for name in getattr(conf, option):
            if not _FIELD_NAME.fullmatch(name):
                message = f"{option}: expected names of header fields, found {name}"
                errors.append(ConfError(_where(part, option), message, 'such as "Subject"'))
    skipped = tuple(name.lower() for name in conf.skip_header)
    for name in ("From", *conf.over_sign_headers):
        if f"{name.lower().removesuffix(':')}:".startswith(skipped):
            errors.append(ConfError(_where(part, "skip_header"), f"skip_header: {name} can't be left out",
                                    "From has to be signed (RFC 6376 5.4)" if name == "From" else
                                    "over_sign_headers has it, too"))
    names = {name.lower().removesuffix(":") for name in (*conf.sign_header, *conf.over_sign_headers)}
    if conf.sign_header and "from" not in names:
        errors.append(ConfError(_where(part, "sign_header"), "sign_header: From is missing",
                                "it has to be signed (RFC 6376 5.4)"))


def _check_smar(section: Section, conf: SmarConf, errors: list[ConfError]) -> None:
    names = {entry.name for entry in conf.map}
    for keyword in ("access_map", "aliases", "mailertable"):
        part = _part(section, keyword)
        if part is None:
            continue
        given = {entry.name.lower() for entry in part.entries if isinstance(entry, Option)}
        if {"file", "name"} <= given:
            errors.append(ConfError(part.at, f"{keyword} has both file and name", "leave one of them out"))
        _check_map(getattr(conf, keyword).name, part.at, names, errors)
    part = _part(section, "local_user_map")
    if part is not None and conf.local_user_map is not None:
        _check_map(conf.local_user_map.name, part.at, names, errors)
    for entry in section.entries:
        if isinstance(entry, Section) and entry.keyword.lower() == "map":
            declared = next((m for m in conf.map if m.name == entry.name), None)
            if declared is not None:
                _check_declared(declared, entry, names, errors)


def _check_map(name: str, at: Position, names: set[str], errors: list[ConfError]) -> None:
    if name and name not in names:
        errors.append(ConfError(at, f"map {name} is not declared", f"add map {name} {{ type = ...; }} (M1 3.9.1)"))


def _check_declared(conf: MapConf, section: Section, names: set[str], errors: list[ConfError]) -> None:
    if conf.type not in MAP_OPTIONS:
        return  # which has been said
    at, what = section.at, f"map {conf.name} of type {conf.type}"
    needed, others = MAP_OPTIONS[conf.type]
    given = {entry.name.lower(): entry.at for entry in section.entries if isinstance(entry, Option)}
    for option in needed:
        if not getattr(conf, option):
            errors.append(ConfError(at, f"{what} needs option {option}"))
    defaults = {field.name: field.default for field in dataclasses.fields(conf)}
    for option in given.keys() & defaults.keys() - {"type", *needed, *others}:
        if getattr(conf, option) != defaults[option]:
            errors.append(ConfError(given[option], f"{what} has no option {option}",
                                    f"its options are {', '.join(needed + others)}" if needed + others else ""))
    if "path" in others and (bool(conf.path) == bool(conf.address or conf.port)
                             or bool(conf.address) != bool(conf.port)):
        errors.append(ConfError(at, f"map {conf.name} needs either path or address and port"))
    if "query" in others and conf.query.count("?") != 1:
        errors.append(ConfError(given.get("query", at), f"{what}: query must have one ? for the key, found "
                                f"{conf.query.count('?')}"))
    for name in conf.maps:
        _check_map(name, at, names, errors)


def _part(section: Section, keyword: str) -> Section | None:
    found = [e for e in joined(section.entries, {keyword}) if isinstance(e, Section) and e.keyword.lower() == keyword]
    return found[0] if found else None


def _where(section: Section, name: str) -> Position:
    for entry in section.entries:
        word = entry.name if isinstance(entry, Option) else entry.keyword
        if word.lower() == name.lower():
            return entry.at
    return section.at
