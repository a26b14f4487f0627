"""Contexts: what a section tls says, made into what OpenSSL needs (M1 3.10 item 24, 11.2).

Rules
    TLS 1.2 and 1.3, unless options say less. Peers are asked for certificates and never refused for them by
    OpenSSL: `peer` records what was found, requirements decide (M1 3.13).
    A context that has made a connection can't be changed: new files make a new context.
"""
import os
from collections.abc import Callable
from typing import Final, NamedTuple

from OpenSSL import SSL, crypto

from meta1g.conf.errors import nearest
from meta1g.conf.kinds import PathValue
from meta1g.conf.opt_tls import TlsConf
from meta1g.mta.tls import common_name
from meta1g.tls import keys, names, private
from meta1g.tls.judge import has_name
from meta1g.tls.keys import Pair, TlsError
from meta1g.tls.peer import on_certificate

PathOf = Callable[[PathValue], str]
_INTEGERS: Final = ("ffdhe2048", "ffdhe3072")  # a list of curves alone would rule Diffie-Hellman with integers out
_ID: Final = b"meta1g"  # sessions of other programs are not taken up (SSL_CTX_set_session_id_context(3))
PAIRS: Final = (("cert_file", "key_file"), ("ec_cert_file", "ec_key_file"), ("dsa_cert_file", "dsa_key_file"))
_OPTIONS: Final = {name.removeprefix("OP_").lower(): getattr(SSL, name) for name in dir(SSL) if name.startswith("OP_")}


class Files(NamedTuple):
    """The files that a context is made of; `by_name` are a server's for who asks for their names."""

    pairs: tuple[Pair, ...]
    others: tuple[str, ...]
    by_name: tuple[Pair, ...] = ()

    @property
    def stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Changes when a file does; a file that is away counts as one that has changed."""
        own = (path for pair in (*self.pairs, *self.by_name) for path in pair)
        return tuple(_stamp(path) for path in (*own, *self.others))


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_ino, found.st_size


def files_of(conf: TlsConf, path_of: PathOf) -> Files:
    """The files that a section names; TlsError if a certificate has no key."""
    pairs = []
    for cert_name, key_name in PAIRS:
        cert, key = (getattr(conf, name) for name in (cert_name, key_name))
        if (cert is None) != (key is None):
            raise TlsError(f"{cert_name} and {key_name} go together: one is missing")
        if cert is not None:
            pairs.append(Pair(path_of(cert), path_of(key)))
    others = (conf.cacert_file, conf.calist_file, conf.cacert_directory, conf.crl_file, conf.crl_directory,
              conf.dhparam.file if conf.dhparam else None)
    return Files(tuple(pairs), tuple(path_of(value) for value in others if value is not None and value.text),
                 tuple(Pair(path_of(more.cert_file), path_of(more.key_file)) for more in conf.certificates))


def server_context(conf: TlsConf, files: Files, path_of: PathOf) -> SSL.Context:
    """What connections of clients begin with; TlsError."""
    context = _context(SSL.TLS_SERVER_METHOD, conf, files, path_of)
    if not files.pairs:
        raise TlsError("a server needs cert_file and key_file")
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
    if "request_cert" in conf.flags:
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_CLIENT_ONCE, on_certificate)
        _name_to_clients(context, conf, path_of)
    if conf.dhparam is not None and conf.dhparam.file is not None:
        _set_dh(context, path_of(conf.dhparam.file))
    if conf.cache_size:
        context.set_session_cache_mode(SSL.SESS_CACHE_SERVER | SSL.SESS_CACHE_NO_INTERNAL)  # clients keep tickets
        context.set_session_id(_ID)
        context.set_timeout(conf.cache_timeout)
    else:
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET)
    if files.by_name:
        _choose_by_name(context, [
            (_names(pair), server_context(conf, Files((pair,), files.others), path_of)) for pair in files.by_name])
    return context


def client_context(conf: TlsConf, files: Files, path_of: PathOf) -> SSL.Context:
    """What connections to servers begin with; TlsError."""
    if files.by_name:
        raise TlsError("certificate: a client has no use for such sections; cert_file is what it presents")
    context = _context(SSL.TLS_CLIENT_METHOD, conf, files, path_of)
    context.set_verify(SSL.VERIFY_PEER, on_certificate)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # `ends` keeps sessions by server
    return context


def _names(pair: Pair) -> tuple[str, ...]:
    """The names that a certificate is for; TlsError if there is none."""
    own = keys.certificates(pair.cert)[0]
    found = names.hosts(own) or tuple(filter(None, [common_name(names.subject(own)).lower()]))
    if not found:
        raise TlsError(f"{pair.cert}: no name by which a client could ask for it")
    return found


def _choose_by_name(context: SSL.Context, by_name: list[tuple[tuple[str, ...], SSL.Context]]) -> None:
    """Let a client that asks for a name have the first certificate for it; it may ask for any, and see cert_file."""
    def choose(connection: SSL.Connection) -> None:
        asked = (connection.get_servername() or b"").decode("ascii", "replace")
        for shown, other in by_name:
            if asked and has_name((asked,), shown):
                connection.set_context(other)
                return

    context.set_tlsext_servername_callback(choose)


def _context(method: int, conf: TlsConf, files: Files, path_of: PathOf) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | _options(conf.options))
    for pair in files.pairs:
        keys.use(context, pair, with_chain="use_chain" in conf.flags)
    _set_cas(context, conf, path_of)
    _set_ciphers(context, conf)
    context.set_verify_depth(conf.verify_depth)
    return context


def _options(words: tuple[str, ...]) -> int:
    """Names of SSL_CTX_set_options(3), with or without SSL_OP_ in front; TlsError."""
    found = 0
    for word in words:
        name = word.strip().lower().removeprefix("ssl_").removeprefix("op_")
        if name not in _OPTIONS:
            hint = nearest(name, _OPTIONS)
            raise TlsError(f"options: {word} is unknown" + (f", did you mean {hint}?" if hint else ""))
        found |= _OPTIONS[name]
    return found


def _set_ciphers(context: SSL.Context, conf: TlsConf) -> None:
    groups = ":".join((*conf.ec_curve, *_INTEGERS)) if conf.ec_curve else ""
    for name, value, use in (
        ("CipherList", conf.cipherlist, context.set_cipher_list),
        ("CipherSuites", conf.ciphersuites, context.set_tls13_ciphersuites),
        ("EC_curve", groups, lambda value: private.set_groups(context, value.decode())),
    ):
        try:
            if value:
                use(value.encode())
        except (SSL.Error, ValueError):
            raise TlsError(f"{name}: OpenSSL takes none of {value}") from None


def _set_cas(context: SSL.Context, conf: TlsConf, path_of: PathOf) -> None:
    cas = path_of(conf.cacert_file) if conf.cacert_file else None
    folder = path_of(conf.cacert_directory) if conf.cacert_directory else None
    if cas is not None:
        keys.certificates(cas)  # OpenSSL would not say what is wrong with it
    if folder is not None and not os.path.isdir(folder):
        raise TlsError(f"{folder}: no folder of certificates")
    if cas or folder:
        try:
            context.load_verify_locations(cas and cas.encode(), folder and folder.encode())
        except SSL.Error:
            raise TlsError(f"{cas or folder}: no certificates of CAs") from None
    store = context.get_cert_store()
    crl = path_of(conf.crl_file) if conf.crl_file else None
    crls = path_of(conf.crl_directory) if conf.crl_directory else None
    if store is not None and (crl or crls):
        try:
            store.load_locations(crl, crls)
        except (crypto.Error, ValueError):
            raise TlsError(f"{crl or crls}: no list of revoked certificates") from None
        store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL)


def _name_to_clients(context: SSL.Context, conf: TlsConf, path_of: PathOf) -> None:
    """The CAs whose certificates a client may present: CAlist_file, else CAcert_file; none if the former is empty."""
    given = conf.calist_file if conf.calist_file is not None else conf.cacert_file
    if given is not None and given.text:
        keys.certificates(path_of(given))
        context.load_client_ca(path_of(given).encode())


def _set_dh(context: SSL.Context, path: str) -> None:
    """Without a file OpenSSL takes a group of RFC 7919 that is as strong as the key."""
    keys.read(path)
    try:
        context.load_tmp_dh(path.encode())
    except SSL.Error as error:
        raise TlsError(f"{path}: no DH parameters ({keys.reason(error)})") from None
