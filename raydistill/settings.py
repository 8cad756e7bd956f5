"""Every setting of a search by its dotted path, as ``raydistill settings`` shows it: what it is, may be, and is by default."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic_core import PydanticUndefined, to_jsonable_python

from raydistill.config import Config
from raydistill.errors import UnknownNameError
from raydistill.search.definition import Choice, Distribution, Search

KINDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


class Setting(NamedTuple):
    """One setting; values as in JSON."""

    path: str
    "What ``--set`` takes."
    value: Any
    type: str
    "With its range."
    default: Any
    "``None`` too where the setting is required, which ``required`` tells."
    required: bool
    about: str
    "The docstring of the field."
    searched: str | None
    "Where the search looks, in the place of ``value``."


def settings(search: Search, prefix: str = "") -> list[Setting]:
    """The settings whose paths begin with ``prefix``, in the order of the configs.

    Raises:
        UnknownNameError: there is none; with the nearest that are.
    """
    known = list(_of(search, None, "", search.space))
    found = [one for one in known if one.path.startswith(prefix)]
    if not found:
        raise UnknownNameError("setting", prefix, [one.path for one in known])
    return found


def show(found: list[Setting]) -> None:
    """Print settings for a person: a line each, and below it what it means."""
    for one in found:
        default = "required" if one.required else f"default {_text(one.default)}"
        searched = f"; searched: {one.searched}" if one.searched else ""
        print(f"{one.path} = {_text(one.value)}  ({one.type}; {default}{searched})\n    {one.about}")


def _of(config: Config, default: Config | None, prefix: str, space: Mapping[str, Distribution]) -> Iterator[Setting]:
    """The settings of a config; ``default`` is the one that its owner has by default, if it is of the same class."""
    schemas, plain = type(config).model_json_schema()["properties"], config.to_json()
    for name, field in type(config).model_fields.items():
        path, value = prefix + name, getattr(config, name)
        usual = field.get_default(call_default_factory=True) if default is None else getattr(default, name)
        if isinstance(value, Config):
            yield from _of(value, usual if type(usual) is type(value) else None, f"{path}.", space)
            continue
        if isinstance(value, dict) and value and path != "space" and all(isinstance(v, Config) for v in value.values()):
            for key, inner in value.items():
                yield from _of(inner, None, f"{path}.{key}.", space)
            continue
        required = usual is PydanticUndefined
        shown = None if required else to_jsonable_python(usual)
        searched = _searched(space[path]) if path in space else None
        about = " ".join((field.description or "").split())
        yield Setting(path, plain[name], _type(schemas[name]), shown, required, about, searched)


def _type(schema: Mapping[str, Any]) -> str:
    """A JSON schema in words: kind, choices, range."""
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    parts = schema.get("anyOf") or schema.get("oneOf")
    if parts:
        return " or ".join(map(_type, parts))
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}" if "items" in schema else "list"
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties")
        return f"table of {_type(inner)}" if isinstance(inner, Mapping) else "table"
    ends = [f"{sign} {schema[name]:g}" for name, sign in BOUNDS.items() if name in schema]
    return " ".join([KINDS.get(schema.get("type", ""), "any"), ", ".join(ends)]).strip()


def _searched(distribution: Distribution) -> str:
    if isinstance(distribution, Choice):
        text = ", ".join(map(_text, distribution.values))
    else:
        text = f"{distribution.low:g} … {distribution.high:g}" + (" (log)" if distribution.log else "")
    when = distribution.when
    return text if when is None else f"{text}, where {when.path} is {' or '.join(map(_text, when.values))}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
