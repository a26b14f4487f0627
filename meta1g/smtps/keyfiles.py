"""The keys of the sections `sign` (M1 3.10 item 3.8); loads OpenSSL."""
from meta1g.conf.load import Config
from meta1g.conf.opt_smtps import DkimConf, SignConf
from meta1g.mta.errors import MtaError
from meta1g.proto.dkim.key import BadKey, read_key
from meta1g.proto.dkim.signature import Signatory
from meta1g.shim.secretfile import read_secret
from meta1g.smtps.signing import Signatories, Signing


class KeyfileError(MtaError):
    """A section `sign` can't work: its file, what is wrong with it, and how to mend it."""


def read_signing(conf: DkimConf, config: Config) -> Signing:
    """A section DKIM_signing with its keys. KeyfileError, SecretError."""
    by_from: dict[str, Signatories] = {}
    for section in conf.sign:
        key = section.from_.lower()
        by_from[key] = (*by_from.get(key, ()), _signatory(section, conf.signature_method, config))
    return Signing(conf, by_from)


def _signatory(section: SignConf, default_method: str, config: Config) -> Signatory:
    path = config.map_path(section.keyfile) if section.keyfile else ""
    method = section.signature_method or default_method
    try:
        key = read_key(read_secret(path))
    except BadKey as error:
        raise KeyfileError(f"{path}: {error}; make one with meta1g dkim-key") from None
    if not method.startswith(key.name):
        fitting = "ed25519-sha256" if key.name == "ed25519" else "rsa-sha256"
        raise KeyfileError(f"{path}: this key can't sign by {method}; write signature_method = {fitting}")
    return Signatory(key, method, section.domain.lower(), section.selector)
