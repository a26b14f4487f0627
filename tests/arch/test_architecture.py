"""The plan of the house: floors, cycles, who may import what, sizes (docs/architecture.md)."""
import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "meta1g"
FLOORS = {
    "mta": 0, "proto": 1, "conf": 1, "shim": 2, "st": 2, "proc": 3, "maps": 3, "tls": 3,
    "mcp": 4, "smtps": 4, "qmgr": 4, "smar": 4, "smtpc": 4, "smtpp": 4, "lda": 4, "pmilter": 4,
    "cli": 5,
}
# The tools of the administrator use two pieces of MCP: how accounts are looked up and where its status lies.
IO_MODULES = {"os", "socket", "select", "selectors", "subprocess", "threading", "queue", "signal", "gevent",
              "tempfile", "shutil", "syslog", "mmap", "fcntl", "asyncio", "time", "random", "bsddb3", "berkeleydb"}
# Reading the configuration file itself is load.py's job.
ALLOWED_IO = {"conf/load.py": {"os"}, "mcp/children.py": {"os"}}  # os: the names of exit codes
NAMES = {"utils", "common", "helpers", "base", "manager", "misc", "data", "info"} - {"data"}  # SMTP's DATA is a noun


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> frozenset[str]:
    """Modules that a file imports, also inside functions; names of ours down to the module."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            known = {name for name in names if (ROOT / Path(*name.split("."))).with_suffix(".py").exists()}
            found |= known or {node.module}
            if known and known != names:
                found.add(node.module)
    return frozenset(found)


def package_of(name: str) -> str:
    return name.split(".")[1] if name.count(".") else ""


def is_pure(path: Path) -> bool:
    package = package_of(module_name(path))
    text = ast.get_docstring(tree(path)) or ""
    return FLOORS.get(package, 9) <= 1 or bool(re.search(r"\bpure\b", text))


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_imports_only_own_package_or_lower_floors(path: Path) -> None:
    package = package_of(module_name(path))
    if not package:
        return
    for name in imports(path):
        other = package_of(name) if name.startswith("meta1g.") else ""
        if other and other != package:
            assert FLOORS[other] < FLOORS[package], f"{module_name(path)} imports {name}"


def test_no_import_cycles() -> None:
    graph = {module_name(p): {n for n in imports(p) if n.startswith("meta1g")} for p in sources()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name):], name])
        if name in done:
            return
        for other in graph.get(name, ()):
            if other != name:
                visit(other, (*trail, name))
        done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_only_st_imports_gevent(path: Path) -> None:
    if package_of(module_name(path)) != "st":
        assert not any(name.split(".")[0] in ("gevent", "greenlet") for name in imports(path))


@pytest.mark.parametrize("path", [p for p in sources() if is_pure(p)], ids=module_name)
def test_pure_modules_import_no_io(path: Path) -> None:
    allowed = ALLOWED_IO.get(str(path.relative_to(PACKAGE)), set())
    assert {name.split(".")[0] for name in imports(path)} & IO_MODULES <= allowed


def test_mcp_is_small_and_plain() -> None:
    """What runs as root loads neither gevent nor OpenSSL nor YAML nor click."""
    seen: set[str] = set()
    todo = ["meta1g.mcp.main"]
    while todo:
        name = todo.pop()
        path = (ROOT / Path(*name.split("."))).with_suffix(".py")
        if name in seen or not path.exists():
            continue
        seen.add(name)
        todo += top_level_imports(path)
    assert not {name.split(".")[0] for name in seen} & {"gevent", "OpenSSL", "yaml", "click", "dns", "bsddb3"}


def top_level_imports(path: Path) -> set[str]:
    found = set()
    for node in tree(path).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_size(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500
    assert path.stem not in NAMES
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{path.name}: {node.name} is too long"


def test_documents_name_files_that_exist() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for name in re.findall(r"`((?:meta1g|tests|docs|contrib|man)/[\w./-]+\.\w+)`", document.read_text()):
            assert (ROOT / name).exists(), f"{document.name} names {name}"
