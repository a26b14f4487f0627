"""Options of AUTH in the SMTP server (M1 3.10 item 1)."""
from dataclasses import dataclass

from meta1g.conf import kinds
from meta1g.conf.kinds import PathValue
from meta1g.conf.spec import opt

_SASL = {
    "noplaintext": "none that send the password itself, not even in TLS",
    "noactive": "none that active attacks break",
    "nodictionary": "none that dictionary attacks break",
    "forward_secrecy": "only those with forward secrecy",
    "noanonymous": "none without a name",
    "pass_credentials": "only those that pass credentials on",
    "mutual_auth": "only those in which the server proves itself, too",
}


@dataclass(frozen=True)
class AuthConf:
    """AUTH."""

    flags: frozenset[str] = opt(
        "flags", kinds.flags(*_SASL), frozenset(), m1="3.10(1.1)", help="which mechanisms are offered", about=_SASL)
    trusted_mechanisms: str = opt(
        "trusted_mechanisms", kinds.STRING, "", m1="3.10(1.2)",
        help="who authenticates by one of these may relay; without it nobody may by that")
    user_realm: str | None = opt(
        "user_realm", kinds.STRING, m1="3.10(1.3)",
        help="realm of names without @, which is added to them; not set: this host; \"\": the client says it")
    mechanisms: str = opt("mechanisms", kinds.STRING, "", m1="",
                          help="those that are offered; default: all for which every user has a fitting secret")
    sasl_file: PathValue | None = opt(
        "SASL_file", kinds.PATH, m1="3.10(1)",
        help="file of Cyrus SASL, of which mech_list and pwcheck_method count; default: meta1.conf in /etc/sasl2, "
             "/etc/sasl, /usr/lib/sasl2 or /usr/local/lib/sasl2, if there is one; \"\" for none")
    password_map: PathValue | None = opt(
        "password_map", kinds.PATH, m1="",
        help="map with users' secrets, which others can't read; see meta1g-passwd(8)")
    dovecot_socket: PathValue | None = opt("dovecot_socket", kinds.PATH, m1="",
                                           help="instead: socket of Dovecot's auth server (its auth-client)")
    saslauthd_socket: PathValue | None = opt("saslauthd_socket", kinds.PATH, m1="",
                                             help="instead: socket mux of saslauthd, for PLAIN and LOGIN")
    token_socket: PathValue | None = opt(
        "token_socket", kinds.PATH, m1="",
        help="socket of a map (M1 10.2) that knows whose token it is, for OAUTHBEARER and XOAUTH2: asked for "
             "`oauth TOKEN`, it answers `OK user` or `NOTFOUND`")
    timeout: int = opt("timeout", kinds.time(1, 300), 20, m1="", help="wait for who knows passwords or tokens",
                       source="meta1g")
    plaintext_without_tls: bool = opt(
        "plaintext_without_TLS", kinds.BOOLEAN, False, m1="",
        help="passwords and tokens may be sent without TLS, where all on the way can read them")
    failures_per_session_max: int = opt("failures_per_session_max", kinds.count(1), 3, m1="",
                                        help="failed logins, then the session ends", source="meta1g")
    failure_delay_max: int = opt(
        "failure_delay_max", kinds.time(0, 120), 30, m1="", source="meta1g",
        help="a failed login is answered after 1, 2, 4 ... seconds, by the failures of the client's address and of the "
             "account in the last 15 minutes; at most so many")
