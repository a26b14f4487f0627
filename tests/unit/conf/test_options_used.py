"""An option that is accepted does what the manual says: each is used, or says why it is moot (design 8)."""
import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from meta1g.conf.load import MODULES
from meta1g.conf.opt_global import GlobalConf
from meta1g.conf.opt_mcp import McpConf
from meta1g.conf.spec import Opt, Sub, entries
from meta1g.proto.smtp.tally import TallyLimits
from meta1g.tls.context import PAIRS

SOURCE = Path(__file__).parents[3] / "meta1g"
# The packages that act on a section's options.
READERS = {
    "global": ("cli", "qmgr", "smar", "smtps", "smtpc", "lda", "proc"), "mcp": ("mcp", "smtps"),
    "qmgr": ("qmgr", "proc", "smar"), "smar": ("smar", "maps", "proc"), "smtps": ("smtps", "proc", "tls"),
    "smtpc": ("smtpc", "proc", "tls"), "lda": ("lda", "proc"),
}
SECTIONS = {"global": GlobalConf, "mcp": McpConf, **MODULES}
# Read by name: TallyLimits' fields are these options without _max; the command line makes `id` the process number.
# So are the pairs of a certificate and its key.
BY_NAME = {f"{name}_max" for name in TallyLimits._fields} | {"id"} | {name for pair in PAIRS for name in pair}
# Moot options whose names others have, too: started.conf, queue_return's default, the servers' threads_max, flags,
# SMAR's threads_min, DEFEDB's hash_table_entries, bits of a cipher.
COMMON_WORDS = {"conf", "default", "threads_max", "threads_min", "flags", "hash_table_entries", "bits"}
OF_SERVERS = {"allow_relaying_if_verified", "check_access_map_for_relaying"}  # in a section tls
ALWAYS = {"separate_final_dot_and_QUIT"}  # flags for what is so without them


class Declared(NamedTuple):
    name: str
    field: str
    cls: Any
    item: Opt | Sub


def is_moot(option: Declared) -> bool:
    return isinstance(option.item, Opt) and bool(option.item.moot)


def declared(cls: Any, prefix: str) -> Iterator[Declared]:
    for field, item in entries(cls).values():
        found = Declared(f"{prefix} {item.name}", field, cls, item)
        yield found
        if isinstance(item, Sub):
            yield from declared(item.cls, found.name)


def words_of(packages: tuple[str, ...]) -> tuple[set[str], set[str]]:
    """Names of attributes that these packages read, and the words that they look for in a set of flags."""
    attributes, flags = set(), set()
    for package in packages:
        for path in (SOURCE / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("os", "self", "click"):
                    attributes.add(node.attr)
                elif isinstance(node, ast.Compare) and isinstance(node.left, ast.Constant):
                    flags.add(str(node.left.value))
    return attributes, flags


@pytest.mark.parametrize("section", SECTIONS)
def test_every_option_is_used_or_moot(section: str) -> None:
    attributes, _ = words_of(READERS[section])
    unused = [option.name for option in declared(SECTIONS[section], section)
              if not is_moot(option) and option.field not in attributes | BY_NAME]
    assert unused == [], "use it, or say why it is moot"


@pytest.mark.parametrize("section", SECTIONS)
def test_no_moot_option_is_used(section: str) -> None:
    """Its user would be told that it has no effect."""
    attributes, _ = words_of(READERS[section])
    used = [option.name for option in declared(SECTIONS[section], section)
            if is_moot(option) and option.field in attributes - COMMON_WORDS]
    assert used == [], "it is used: take moot away"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_flag_is_used(section: str) -> None:
    _, flags = words_of(READERS[section])
    for option in declared(SECTIONS[section], section):
        if isinstance(option.item, Opt) and option.item.kind.name == "flags":
            if option.field == "options":  # of openlog(3), by a table in proc.log
                continue
            for flag in set(option.item.kind.words) - ALWAYS - (OF_SERVERS if section == "smtpc" else set()):
                assert flag.lower() in flags, f"{option.name} {flag}"
