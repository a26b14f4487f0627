"""The YAML form of a configuration: same names, sections as mappings, repeated ones as lists."""
from typing import Any

import yaml

from meta1g.conf.errors import ConfError, Position
from meta1g.conf.lex import is_text
from meta1g.conf.parse import DEPTH_MAX, Option, Section, Value, parse


def tree_of(text: str, name: str) -> tuple[Section, list[ConfError]]:
    """The tree of a YAML text, and what is wrong with its form."""
    root = Section(Position(name, 1, 1))
    errors: list[ConfError] = []
    try:
        _check_events(text, name, errors)
        node = None if errors else yaml.compose(text, Loader=yaml.CSafeLoader)
    except UnicodeEncodeError:
        errors.append(ConfError(root.at, "not valid YAML: the file is not UTF-8"))
    except yaml.YAMLError as error:
        mark: Any = getattr(error, "problem_mark", None)
        at = Position(name, mark.line + 1, mark.column + 1) if mark else root.at
        errors.append(ConfError(at, f"not valid YAML: {_problem(error)}"))
    else:
        if node is not None:
            _fill(root, node, name, errors)
    return root, errors


def _problem(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or error).partition("\n")[0]


def _check_events(text: str, name: str, errors: list[ConfError]) -> None:
    """Refuse what could make a small text large or deep: aliases, and nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        at = _at(event, name)
        if isinstance(event, yaml.AliasEvent):
            errors.append(ConfError(at, "aliases are not used here", "write the value out"))
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > 2 * DEPTH_MAX:
                errors.append(ConfError(at, f"sections are nested more than {DEPTH_MAX} deep"))
                return
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _at(node: Any, name: str) -> Position:
    return Position(name, node.start_mark.line + 1, node.start_mark.column + 1)


def _fill(section: Section, node: yaml.Node, name: str, errors: list[ConfError]) -> None:
    if not isinstance(node, yaml.MappingNode):
        errors.append(ConfError(_at(node, name), "expected a mapping of options and sections"))
        return
    for key, value in node.value:
        _entry(section, key, value, name, errors)


def _entry(section: Section, key: yaml.Node, node: yaml.Node, name: str, errors: list[ConfError]) -> None:
    at = _at(key, name)
    if not isinstance(key, yaml.ScalarNode):
        errors.append(ConfError(at, "expected the name of an option or a section"))
        return
    word = str(key.value)
    if isinstance(node, yaml.MappingNode):
        _add(section, at, word, node, name, errors)
    elif isinstance(node, yaml.SequenceNode) and any(isinstance(item, yaml.MappingNode) for item in node.value):
        for item in node.value:
            _add(section, at, word, item, name, errors)
    elif isinstance(node, yaml.SequenceNode):
        values = [value for item in node.value if (value := _value(word, item, name, errors)) is not None]
        section.entries.append(Option(at, word, values, is_list=True))
    elif (value := _value(word, node, name, errors)) is not None:
        section.entries.append(Option(at, word, [value], is_condition=word.lower() == "condition"))


def _value(word: str, node: yaml.Node, name: str, errors: list[ConfError]) -> Value | None:
    if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:null":
        errors.append(ConfError(_at(node, name), f"expected a value for {word}"))
        return None
    if not is_text(str(node.value)):
        errors.append(ConfError(_at(node, name), "this is not UTF-8 text"))
        return None
    at = _at(node, name)
    if word.lower() == "condition":  # whose mistakes are shown where they are; in a block at least the line is right
        at = at._replace(line=at.line + (node.style in ("|", ">")), column=at.column + (node.style in ("'", '"')))
    return Value(at, [str(node.value)], True)


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
