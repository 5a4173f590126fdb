"""Reads an agent's configuration: flags over environment over YAML file over defaults, and says who said what.

A wrong value is told in one line that names where it stands (`edge.yaml:7`, `WALT_EDGE_WEB__PORT`, `--quota-mb`), its
key, what was found and what was expected. A key that nobody knows is an error too, with the nearest that is known.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import yaml
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from walt_edge.contract.errors import UsageError
from walt_edge.contract.redaction import redact
from walt_edge.settings.tree import AgentConfig

PREFIX: Final = "WALT_EDGE_"
_BETWEEN: Final = "__"
_MAX_FILE_BYTES = 1 << 20
_KEY_TAGS: Final = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")

Part = str | int
Key = tuple[Part, ...]


class ConfigError(UsageError):
    """The configuration is wrong; the text names the place and the key."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One value from the command line.

    Attributes:
        key: Where it goes; `*` stands for every camera.
        value: What it is.
        origin: The flag, for error texts.
    """

    key: Key
    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and where its values come from.

    Attributes:
        config: The tree.
        origins: Of every key that is not left to its default, where it was said.
    """

    config: AgentConfig
    origins: Mapping[Key, str]

    def origin(self, key: Key) -> str:
        """Where a key's value comes from; `default` if nobody said it."""
        return _said(self.origins, key) or "default"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a configuration is read from, at the start and again at every reload.

    Attributes:
        flags: From the command line; the same at every reload.
        file: YAML, or None.
    """

    flags: tuple[Assignment, ...] = ()
    file: Path | None = None

    def load(self) -> AgentConfig:
        """The configuration as it is now.

        Raises:
            ConfigError: Something in it is wrong.
        """
        return self.load_traced().config

    def load_traced(self) -> Loaded:
        """The configuration as it is now, and where its values come from; raises as `load`."""
        tree, origins = _read_file(self.file) if self.file else ({}, {})
        values, more = _read_environment()
        _merge(tree, values)
        origins = _without(origins, more) | more
        for flag in self.flags:
            _put(tree, flag.key, flag.value)
            said = dict(_spread(flag.key, flag.value, flag.origin))
            origins = _without(origins, said) | said
        try:
            return Loaded(AgentConfig.model_validate(tree), origins)
        except ValidationError as error:
            raise ConfigError(
                _told(error, origins, str(self.file or "configuration"))
            ) from None  # its text may quote a secret


def read_value(text: str) -> Any:
    """One value as YAML reads it.

    Raises:
        ConfigError: It cannot.
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError("not YAML: put the value in quotes") from None


def known_keys() -> list[str]:
    """Every key, dotted, in the order of the tree; cameras' as `cameras.*.url`."""
    return list(_keys_of(AgentConfig, ()))


def find_unknown(key: str) -> str:
    """What to say of a key that nobody knows: the nearest one, if one is near."""
    near = difflib.get_close_matches(key, known_keys(), n=1, cutoff=0.6)
    return f"no such key: did you mean {near[0]}?" if near else "no such key: walt-edge config shows all"


def _keys_of(model: type[BaseModel], above: tuple[str, ...]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        own, elements = _section(field.annotation), next(map(_section, get_args(field.annotation)), None)
        if own is not None:
            yield from _keys_of(own, (*above, name))
        elif elements is not None:
            yield from _keys_of(elements, (*above, name, "*"))
        else:
            yield ".".join((*above, name))


def _section(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


# -- file -------------------------------------------------------------------------------------------------------


def _read_file(path: Path) -> tuple[dict[str, Any], dict[Key, str]]:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES + 1)
        if len(text) > _MAX_FILE_BYTES:
            raise ConfigError(f"{path}: larger than {_MAX_FILE_BYTES} bytes, this is no configuration")
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return {}, {}
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}: expected keys and values, as in `home: /var/lib/walt`")
        origins = {key: f"{path}:{line}" for key, line in _lines(node, (), path, set())}
        return dict(loader.construct_document(node)), origins
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; give a YAML file to --config") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date of no calendar is a ValueError
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        # PyYAML's own text quotes the line, which may hold a password.
        raise ConfigError(f"{where}: not YAML: {getattr(error, 'problem', None) or 'unreadable'}") from None


def _lines(node: yaml.Node, above: Key, path: Path, visited: set[int]) -> Iterator[tuple[Key, int]]:
    """Every key below a node with its line, counted from 1; refuses a key given twice."""
    if id(node) in visited:
        return  # an alias, which may even lead back to itself
    visited.add(id(node))
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if key.tag not in _KEY_TAGS:
                raise ConfigError(
                    f"{path}:{line}: {_dotted((*above, name))}: a key that is no text, put it in quotes"
                )
            if name in seen:
                raise ConfigError(f"{path}:{line}: {_dotted((*above, name))}: given twice, keep one")
            seen.add(name)
            yield (*above, name), line
            yield from _lines(value, (*above, name), path, visited)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*above, index), value.start_mark.line + 1
            yield from _lines(value, (*above, index), path, visited)


# -- environment ------------------------------------------------------------------------------------------------


class _Environment(AgentConfig, BaseSettings):
    """Tells pydantic-settings how the environment is spelt; never made."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=_BETWEEN,
        env_ignore_empty=True,
        env_parse_none_str="null",
    )


def _read_environment() -> tuple[dict[str, Any], dict[Key, str]]:
    origins: dict[Key, str] = {}
    known = {key.split(".")[0] for key in known_keys()} | set(known_keys())
    for variable in sorted(os.environ):
        if variable.upper().startswith(PREFIX) and os.environ[variable]:
            dotted = variable[len(PREFIX) :].lower().replace(_BETWEEN, ".")
            if dotted not in known:
                raise ConfigError(f"{variable}: {dotted}: {find_unknown(dotted)}")
            origins[tuple(dotted.split("."))] = variable
    try:
        values = EnvSettingsSource(_Environment)()
        for key, origin in tuple(origins.items()):
            value: Any = values
            for part in key:
                value = value[part] if isinstance(value, dict) and part in value else None
            origins |= dict(_spread(key, value, origin))
        return values, origins
    except SettingsError as error:
        field = str(error).split('"')[1] if '"' in str(error) else ""
        raise ConfigError(
            f"{PREFIX}{field.upper()}: {field}: expected JSON, as in "
            '[{"name": "north", "url": "rtsp://10.0.0.5/stream"}]'
        ) from None


# -- together ---------------------------------------------------------------------------------------------------


def _spread(key: Key, value: Any, origin: str) -> Iterator[tuple[Key, str]]:
    """Everything that a value says: a section, or a list of sections."""
    yield key, origin
    for index, element in enumerate(value if isinstance(value, list) else ()):
        yield (*key, index), origin
        for part in element if isinstance(element, dict) else ():
            yield (*key, index, part), origin
    for part in value if isinstance(value, dict) else ():
        yield (*key, part), origin


def _without(origins: Mapping[Key, str], said: Mapping[Key, str]) -> dict[Key, str]:
    """The origins without what lies in lists that were said anew."""
    anew = [key for key in said if (*key, 0) in said]
    return {key: origin for key, origin in origins.items() if not any(key[: len(one)] == one for one in anew)}


def _merge(tree: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Puts `over` into the tree, section by section; lists are replaced whole."""
    for key, value in over.items():
        if isinstance(value, Mapping):
            below: Any = tree.get(key)
            tree[key] = below = dict(below) if isinstance(below, dict) else {}
            _merge(below, value)
        else:
            tree[key] = value


def _put(tree: Any, key: Key, value: Any) -> None:
    """Sets one value, making sections on the way; `*` and numbers go into a list's elements."""
    part, *rest = key
    if part == "*" or isinstance(part, int):
        elements = tree if isinstance(tree, list) else []
        chosen: Iterable[Any] = elements if part == "*" else elements[int(part) : int(part) + 1]
        for element in chosen:
            if rest and isinstance(element, dict):
                _put(element, tuple(rest), value)
        return
    if not isinstance(tree, dict):
        return  # a wrong kind of thing stands there, which validation tells
    if not rest:
        tree[part] = value
        return
    if tree.get(part) is None:
        tree[part] = [] if rest[0] == "*" or isinstance(rest[0], int) else {}
    _put(tree[part], tuple(rest), value)


def _told(error: ValidationError, origins: Mapping[Key, str], otherwise: str) -> str:
    """The first thing that is wrong, in one line, and how many more there are."""
    first, *others = error.errors(include_url=False)
    more = f" (and {len(others)} more)" if others else ""
    key: Key = first["loc"]
    if first["type"] != "missing":
        # Of a union that nothing fits, pydantic's place goes on with each member that was tried.
        said = (key[:length] for length in range(len(key), 0, -1) if _said(origins, key[:length]))
        key = next(said, key)
    where = _origin(origins, key, first["msg"])
    return redact(f"{where or otherwise}: {_dotted(key)}: {_what(first)}{more}")


def _what(detail: ErrorDetails) -> str:
    kind, text = detail["type"], detail["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return find_unknown(_dotted(detail["loc"], wildcard=True))
    if kind == "missing":
        return "missing: give one"
    if kind == "value_error":
        return text
    expected = text.removeprefix("Input should be ").removeprefix("String should ")
    return f"found {_shown(detail)}, expected {expected}"


def _shown(detail: ErrorDetails) -> str:
    """What was found, unless it is, or may hold, a secret."""
    value = detail["input"]
    if isinstance(value, SecretStr | Mapping | list) or "token" in detail["loc"]:
        return "something else"
    return redact(repr(value))[:80]


def _origin(origins: Mapping[Key, str], key: Key, about: str = "") -> str:
    """Who said a key, or the section around it, or, of a section, the key in it that the text is about."""
    for length in range(len(key), 0, -1):
        if found := _said(origins, key[:length]):
            return found
    below = [path for path in origins if key and path[: len(key)] == key]
    below.sort(key=lambda path: str(path[-1]) not in about)
    return origins[below[0]] if below else ""


def _said(origins: Mapping[Key, str], key: Key) -> str:
    """Who said exactly this key, or of every camera."""
    starred = tuple("*" if isinstance(part, int) else part for part in key)
    return origins.get(starred) or origins.get(key) or ""


def _dotted(key: Iterable[Part], *, wildcard: bool = False) -> str:
    dotted = ".".join("*" if wildcard and isinstance(part, int) else str(part) for part in key) or "configuration"
    return (dotted if dotted.isprintable() else ascii(dotted))[:80]
