"""The YAML form of a configuration: same names, sections as mappings, repeated ones as lists."""
from typing import Any

import yaml

from meta1g.conf.errors import ConfError, Position
from meta1g.conf.parse import Option, Section, Value, parse


def tree_of(text: str, name: str) -> tuple[Section, list[ConfError]]:
    """The tree of a YAML text, and what is wrong with its form."""
    try:
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = Position(name, mark.line + 1 if mark else 1, mark.column + 1 if mark else 1)
        return Section(at), [ConfError(at, f"not valid YAML: {getattr(error, 'problem', error)}")]
    errors: list[ConfError] = []
    root = Section(Position(name, 1, 1))
    if node is not None:
        _fill(root, node, name, errors)
    return root, errors


def _at(node: yaml.Node, name: str) -> Position:
    return Position(name, node.start_mark.line + 1, node.start_mark.column + 1)


def _fill(section: Section, node: yaml.Node, name: str, errors: list[ConfError]) -> None:
    if not isinstance(node, yaml.MappingNode):
        errors.append(ConfError(_at(node, name), "expected a mapping of options and sections"))
        return
    for key, value in node.value:
        _entry(section, key, value, name, errors)


def _entry(section: Section, key: yaml.Node, node: yaml.Node, name: str, errors: list[ConfError]) -> None:
    at, word = _at(key, name), str(key.value)
    if isinstance(node, yaml.MappingNode):
        _add(section, at, word, node, name, errors)
    elif isinstance(node, yaml.SequenceNode) and any(isinstance(item, yaml.MappingNode) for item in node.value):
        for item in node.value:
            _add(section, at, word, item, name, errors)
    elif isinstance(node, yaml.SequenceNode):
        values = [Value(_at(item, name), [str(item.value)], True) for item in node.value]
        section.entries.append(Option(at, word, values, is_list=True))
    else:
        option = Option(at, word, [Value(_at(node, name), [str(node.value)], True)])
        option.is_condition = word.lower() == "condition"
        section.entries.append(option)


def _add(section: Section, at: Position, word: str, node: yaml.Node, name: str, errors: list[ConfError]) -> None:
    keyword, _, label = word.partition(" ")
    child = Section(at, keyword, label.strip())
    _fill(child, node, name, errors)
    section.entries.append(child)


def to_yaml(text: str, name: str) -> str:
    """A text in MeTA1's grammar as YAML."""
    root, _ = parse(text, name)
    return yaml.dump(_plain(root), sort_keys=False, allow_unicode=True, Dumper=yaml.CSafeDumper)


def _plain(section: Section) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in section.entries:
        if isinstance(entry, Option):
            texts = [value.text for value in entry.values]
            found[entry.name] = texts if entry.is_list else texts[0]
            continue
        key = f"{entry.keyword} {entry.name}".strip()
        if key in found:
            before = found[key] if isinstance(found[key], list) else [found[key]]
            found[key] = [*before, _plain(entry)]
        else:
            found[key] = _plain(entry)
    return found
