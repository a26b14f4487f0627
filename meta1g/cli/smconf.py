"""smconf: check a configuration, print it, convert it (M1 6.1.1)."""
import dataclasses
import json
import os
import sys
from typing import NoReturn

import click

from meta1g import __version__
from meta1g.conf.dump import full_text, to_text
from meta1g.conf.errors import ConfError, ConfErrors
from meta1g.conf.load import Config, load_checked, load_text, moot_in_use


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", required=False)
@click.option("--print", "prints", is_flag=True, help="print it in normal form, without what equals a default")
@click.option("--defaults", is_flag=True, help="print all options and their values; without FILE the defaults")
@click.option("--to-yaml", is_flag=True, help="print it as YAML")
@click.option("--from-yaml", is_flag=True, help="FILE is YAML whatever its name; print it in MeTA1's grammar")
@click.option("--no-services", is_flag=True, help="do not ask for what MCP needs to start services")
@click.option("--json", "as_json", is_flag=True, help="print mistakes as JSON")
@click.version_option(__version__, "-V", "--version")
def main(
    file: str | None, prints: bool, defaults: bool, to_yaml: bool, from_yaml: bool, no_services: bool, as_json: bool
) -> None:
    """Check the configuration FILE, of meta1.conf(5), and name every mistake with its line and a way to mend it.

    Exit code 0 if it is right, 78 if not, 66 if it can't be read. Options that are set but have no effect in this
    version get a warning. A FILE whose name ends in .yaml or .yml is YAML.

    \b
    Examples:
      smconf /etc/meta1/meta1.conf              is it right?
      smconf --print meta1.conf                 what does it say, briefly?
      smconf --defaults meta1.conf              and with all that is not in it?
      smconf --defaults                         which options are there?
      smconf --to-yaml meta1.conf > meta1.yaml
      smconf --from-yaml meta1.yaml > meta1.conf
      smconf --no-services part.conf            a file without services
      smconf --json meta1.conf                  for a program: [{"line": 3, "message": ...}]
    """
    if file is None:
        if not defaults:
            raise click.UsageError("name a FILE, or use --defaults")
        click.echo(full_text(Config()), nl=False)
        return
    config = _load(file, from_yaml=from_yaml, services=not no_services, as_json=as_json)
    for option in moot_in_use(config):
        click.echo(f"{file}: warning: without effect: {option}", err=True)
    if defaults:
        click.echo(full_text(config), nl=False)
    elif to_yaml:
        from meta1g.conf.yamlform import to_yaml as convert  # noqa: PLC0415 - yaml only when it is needed

        click.echo(convert(to_text(config), file), nl=False)
    elif prints or from_yaml:
        click.echo(to_text(config), nl=False)
    else:
        click.echo("[]" if as_json else f"{file}: ok")


def _load(file: str, *, from_yaml: bool, services: bool, as_json: bool) -> Config:
    is_yaml = from_yaml or file.endswith((".yaml", ".yml"))
    try:
        with open(file, encoding="utf-8", errors="surrogateescape") as stream:
            text = stream.read()
        config = (load_checked if services else load_text)(text, f"{file}.yaml" if is_yaml else file)
    except ConfErrors as error:
        _report([mistake._replace(at=mistake.at._replace(file=file)) for mistake in error.errors], as_json)
    except OSError as error:
        click.echo(f"smconf: {file}: {error.strerror}", err=True)
        sys.exit(os.EX_NOINPUT)
    return dataclasses.replace(config, file=file)


def _report(errors: list[ConfError], as_json: bool) -> NoReturn:
    if as_json:
        click.echo(json.dumps([
            {"file": e.at.file, "line": e.at.line, "column": e.at.column, "message": e.message, "hint": e.hint}
            for e in errors]))
    else:
        click.echo("\n".join(map(str, errors)), err=True)
    sys.exit(os.EX_CONFIG)
