"""smconf: check a configuration, print it, convert it (M1 6.1.1)."""
import json
import os
import sys
from typing import NoReturn

import click

from meta1g import __version__
from meta1g.conf.dump import to_text, version_text
from meta1g.conf.errors import ConfError, ConfErrors
from meta1g.conf.load import MODULES, Config, check_services, load_file, load_text, planned_in_use


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
    """Check the configuration FILE: exit code 0 if it is right, 78 if not, with every mistake named.

    \b
    Examples:
      smconf /etc/meta1/meta1.conf
      smconf --print meta1.conf
      smconf --to-yaml meta1.conf > meta1.yaml
      smconf --from-yaml meta1.yaml > meta1.conf
      smconf --defaults
    """
    if file is None:
        if not defaults:
            raise click.UsageError("name a FILE, or use --defaults")
        _print_defaults(Config())
        return
    config = _load(file, from_yaml, as_json)
    errors = [] if no_services else check_services(config)
    if errors:
        _report(errors, as_json)
    for option in planned_in_use(config):
        click.echo(f"{file}: warning: {option} has no effect in this version", err=True)
    if defaults:
        _print_defaults(config)
    elif to_yaml:
        from meta1g.conf.yamlform import to_yaml as convert  # noqa: PLC0415 - yaml only when it is needed

        click.echo(convert(to_text(config), file), nl=False)
    elif prints or from_yaml:
        click.echo(to_text(config), nl=False)
    else:
        click.echo(f"{file}: ok")


def _load(file: str, from_yaml: bool, as_json: bool) -> Config:
    try:
        if not from_yaml:
            return load_file(file)
        with open(file, encoding="utf-8") as stream:
            return load_text(stream.read(), file if file.endswith((".yaml", ".yml")) else f"{file}.yaml")
    except ConfErrors as error:
        _report(list(error.errors), as_json)
    except OSError as error:
        click.echo(f"smconf: {file}: {error.strerror}", err=True)
        sys.exit(os.EX_NOINPUT)


def _report(errors: list[ConfError], as_json: bool) -> NoReturn:
    if as_json:
        click.echo(json.dumps([
            {"file": e.at.file, "line": e.at.line, "column": e.at.column, "message": e.message, "hint": e.hint}
            for e in errors]))
    else:
        click.echo("\n".join(map(str, errors)), err=True)
    sys.exit(os.EX_CONFIG)


def _print_defaults(config: Config) -> None:
    for keyword in MODULES:
        click.echo(version_text(keyword, 5, config, config.module(keyword)), nl=False)
