"""Names of users and realms, as Cyrus SASL takes them; pure (M1 3.10 item 1.3).

Rules
    `user_realm` not set: a name without @ means one at this host. Set: it is added to such names, which makes
    user@realm of them. Set to "": the client says the realm, and a name without @ stays as it is.
    Letters A to Z have no case in names that are looked up, as in all maps.
"""


def canonical(name: str, realm: str | None) -> str:
    """The name that is logged, compared and asked for in conditions."""
    return f"{name}@{realm}" if realm and "@" not in name else name


def keys_of(name: str, realm: str | None, host: str) -> list[bytes]:
    """The keys under which a user may stand in a map, in the order in which they are tried."""
    full = canonical(name, realm)
    local, at, domain = full.rpartition("@")
    ours = realm if realm is not None else host
    keys = [full]
    if not at and ours:
        keys.append(f"{full}@{ours}")
    elif ours and domain.lower() == ours.lower():
        keys.append(local)
    return [key.encode().lower() for key in keys]


def is_same(name: str, other: str, realm: str | None, host: str) -> bool:
    """Whether two names mean the same user."""
    return bool(set(keys_of(name, realm, host)) & set(keys_of(other, realm, host)))
