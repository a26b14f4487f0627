"""meta1g dkim-key: a file that smtps takes, and what belongs into DNS and configuration."""
import os
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from meta1g.cli.dkimkey import main
from meta1g.cli.programs import run
from meta1g.conf.load import load_text
from meta1g.proto.dkim.key import read_key, record
from meta1g.smtps.keyfiles import read_signing


def dkim_key(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize(("option", "name"), [([], "rsa"), (["--bits", 4096], "rsa"), (["--ed25519"], "ed25519")])
def test_a_key(tmp_path: Path, option: list[object], name: str) -> None:
    path = tmp_path / "x.key"
    done = dkim_key(path, "-d", "example.org", "-s", "s1", *option)
    assert (done.exit_code, done.stderr) == (0, "")
    assert path.stat().st_mode & 0o777 == 0o600
    _, entry, _, section = done.stdout.splitlines()
    host, _, kind, _, *strings, _ = shlex.split(entry)
    assert (host, kind) == ("s1._domainkey.example.org.", "TXT")
    assert "".join(strings) == record(read_key(path.read_bytes()))
    assert f"k={name};" in strings[0]
    assert max(map(len, strings)) <= 255
    config = load_text(f"smtps {{ DKIM_signing {{ {section} }} }}", "f")
    assert read_signing(config.module("smtps").dkim_signing, config)
    assert dkim_key(path, "-d", "example.org", "-s", "s1", "--show").stdout == done.stdout


def test_what_can_not_be_done(tmp_path: Path) -> None:
    path = tmp_path / "x.key"
    for arguments, code, says in [
            ((path, "-d", "exam ple", "-s", "s"), 2, "--domain: expected a domain name"),
            ((path, "-d", "a.b", "-s", "s_\n"), 2, "--selector: expected a domain name"),
            ((path, "-d", "a.b", "-s", "s", "--bits", "512"), 2, "1024<=x<=4096"),
            ((path, "-d", "a.b", "-s", "s", "--show"), os.EX_NOINPUT, f"{path}: No such file"),
            ((tmp_path / "no" / "x", "-d", "a.b", "-s", "s"), os.EX_CANTCREAT, "No such file")]:
        done = dkim_key(*arguments)
        assert (done.exit_code, says in done.stderr) == (code, True), done.stderr
    assert not path.exists()
    path.write_text("precious")
    done = dkim_key(path, "-d", "a.b", "-s", "s")
    assert (done.exit_code, done.stderr) == (os.EX_CANTCREAT, f"dkim-key: {path}: File exists\n")
    assert path.read_text() == "precious"
    path.chmod(0o644)
    assert "chmod 640" in dkim_key(path, "-d", "a.b", "-s", "s", "--show").stderr
    path.chmod(0o600)
    assert f"{path}: no private key" in dkim_key(path, "-d", "a.b", "-s", "s", "--show").stderr


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_owner(tmp_path: Path) -> None:
    dkim_key(tmp_path / "a", "-d", "a.b", "-s", "s", "-u", "nobody")
    assert (tmp_path / "a").owner() == "nobody"
    assert dkim_key(tmp_path / "b", "-d", "a.b", "-s", "s", "-u", "nosuchuser").exit_code == os.EX_NOUSER
    assert not (tmp_path / "b").exists()


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("dkim-key", ["--help"])
    text = capsys.readouterr().out
    assert re.search(r"meta1g dkim-key /etc/meta1/\S+ -d example.org", text)
    assert "Publish the record first" in text
