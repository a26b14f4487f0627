"""The man pages: mandoc has nothing to say, every program has one, every option stands in it."""
import importlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from meta1g.cli import ctl, programs
from meta1g.cli.install import PROGRAMS
from meta1g.conf.cmdline import usage
from meta1g.qmgr.host_conf import HostConf
from meta1g.smtpp.cmdline import USAGE

MAN = Path(__file__).parents[2] / "man"
LINKS = {path.name: path.readlink().name for path in MAN.iterdir() if path.is_symlink()}
PAGES = sorted(path.name for path in MAN.iterdir() if path.name not in LINKS)
MACRO = re.compile(r"[A-Z][a-z]")


def page_of(program: str) -> str:
    """The text of a program's page, also behind a link."""
    for name in (f"{program}.8", f"meta1g-{program}.8"):
        if name in LINKS or name in PAGES:
            return (MAN / LINKS.get(name, name)).read_text()
    pytest.fail(f"{program} has no page")


def explained(page: str) -> set[str]:
    """The options that have an item of their own: `.It Fl f , Fl -file Ar file`."""
    found = set()
    for line in page.splitlines():
        is_flag = False
        for word in line.split() if line.startswith(".It ") else ():
            is_flag = word == "Fl" or (is_flag and not MACRO.fullmatch(word))
            if is_flag and word[0].isalnum() | word.startswith("-") and word != "Fl":
                found.add(f"-{word}")
    return found


def options(command: click.Command) -> Iterator[str]:
    """All options of a command and of those below it."""
    with command.make_context(command.name, [], resilient_parsing=True) as context:
        for item in command.get_params(context):
            if isinstance(item, click.Option):
                yield from (*item.opts, *item.secondary_opts)
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        yield from options(below)


def command_of(tool: str) -> click.Command:
    if tool == "meta1g-ctl":
        return ctl.main
    found = getattr(importlib.import_module(programs.TOOLS[tool]), tool if tool in programs.GREY else "main")
    assert isinstance(found, click.Command)
    return found


@pytest.mark.peer
def test_mandoc_has_nothing_to_say() -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", *PAGES], cwd=MAN, capture_output=True, text=True,
                          check=False, timeout=60)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("name", PAGES)
def test_page_is_mdoc_and_named_as_its_file(name: str) -> None:
    page = (MAN / name).read_text()
    title, _, section = name.rpartition(".")
    named = re.search(r"^\.Sh NAME\n\.Nm (.*?)( ,)?\n", page, re.MULTILINE)
    assert named and named[1].replace(" ", "-") == title
    assert f"\n.Dt {title.upper()} {section}\n" in page
    assert ".TH" not in page


def test_links_lead_to_pages_that_name_them() -> None:
    for link, target in LINKS.items():
        assert f".Nm {link.rpartition('.')[0]}\n" in (MAN / target).read_text()


def test_references_lead_somewhere() -> None:
    ours = {name.rpartition(".")[0] for name in (*PAGES, *LINKS)}
    for name in PAGES:
        for title in re.findall(r"Xr (\S+) [1-8]", (MAN / name).read_text()):
            assert title in ours | {"openlog", "cdb", "makemap", "postmap", "regex"}, f"{name}: {title}"


def test_every_program_has_a_page() -> None:
    installed = {name for names in PROGRAMS.values() for name in names}
    for program in {*programs.DAEMONS, *programs.TOOLS, *installed, "sendmail", "meta1g-ctl", "meta1"}:
        page_of(program)


@pytest.mark.parametrize("tool", [*programs.TOOLS, "meta1g-ctl"])
def test_every_option_of_a_tool_stands_in_its_page(tool: str) -> None:
    assert set(options(command_of(tool))) - explained(page_of(tool)) == set()


@pytest.mark.parametrize("daemon", programs.DAEMONS)
def test_every_option_of_a_daemon_stands_in_its_page(daemon: str) -> None:
    text = USAGE if daemon == "smtpp" else usage(daemon)
    letters = set(re.findall(r"^  (-\w)", text, re.MULTILINE))
    assert letters and letters - explained(page_of(daemon)) == set()


def test_examples_of_qmgr_conf_are_right() -> None:
    text = re.findall(r"^\.Bd -literal\n(.*?)^\.Ed", (MAN / "qmgr_conf.5").read_text(), re.MULTILINE | re.DOTALL)[-1]
    entries = dict(line.encode().split(None, 1) for line in text.splitlines())
    assert len(entries) == 10
    assert HostConf(entries, {"low"}, {"net10"}, {"plain"}).wrong == []
