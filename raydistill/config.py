"""The base of every Config: frozen, strict about unknown keys, one serialiser, one fingerprint, dotted overrides.

A Config lives beside the thing that it configures and nests others. ``override`` changes single values by their
dotted path (what ``--set distill.iterations=200`` and a search space both do) and checks the result as a whole.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

import pydantic

from raydistill.errors import ConfigError

Scalar = str | int | float | bool | None


class Config(pydantic.BaseModel):
    """A frozen settings object; unknown keys and values out of range raise ``ConfigError``."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except pydantic.ValidationError as error:
            raise ConfigError(explain(type(self), error)) from None

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Build from plain JSON values, with the same one-line errors as the constructor."""
        try:
            return cls.model_validate(values)
        except pydantic.ValidationError as error:
            raise ConfigError(explain(cls, error)) from None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, defaults included; ``parse`` reads them back."""
        return self.model_dump(mode="json", by_alias=True)

    def flat(self) -> dict[str, Scalar]:
        """Dotted path → scalar, in field order: the stable names that trackers record."""
        return flatten(self.to_json())

    def fingerprint(self) -> str:
        """16 hex digits that change exactly when a value changes."""
        return fingerprint(self.to_json())

    def override(self, changes: Mapping[str, Any]) -> Self:
        """A checked copy with the values at dotted paths replaced.

        Args:
            changes: ``{"distill.iterations": 200}``; a text value is read as JSON where that is possible.

        Raises:
            ConfigError: a path that does not exist (with the nearest that does), or a value out of range.
        """
        values = self.to_json()
        for path, value in changes.items():
            _place(values, path, _plain(value), known=list(self.flat()))
        return type(self).parse(values)


def fingerprint(value: Any) -> str:
    """16 hex digits of the SHA-256 of ``value`` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def once(field: str, values: Sequence[Any]) -> None:
    """Refuse a value that is named twice: what is counted as independent would be the same numbers again.

    Raises:
        ValueError: names it.
    """
    twice = [value for number, value in enumerate(values) if value in values[:number]]
    if twice:
        raise ValueError(f"{field}: {twice[0]!r} is named twice; name each once")


def flatten(values: Any, prefix: str = "") -> dict[str, Scalar]:
    """Nested mappings as dotted paths; lists of scalars become one comma-separated text."""
    if isinstance(values, Mapping):
        flat: dict[str, Scalar] = {}
        for key, value in values.items():
            flat.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
        return flat
    if isinstance(values, list):
        if any(isinstance(v, Mapping | list) for v in values):
            return flatten({str(i): v for i, v in enumerate(values)}, prefix)
        return {prefix: ",".join(map(str, values))}
    return {prefix: values}


def explain(model: type[pydantic.BaseModel], error: pydantic.ValidationError) -> str:
    """The first failure of a pydantic error as one line: where, which value, which rule."""
    errors = error.errors(include_url=False)
    first = errors[0]
    where = _where(first["loc"])
    owner = model.__qualname__
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        near = difflib.get_close_matches(name, list(model.model_fields), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(model.model_fields)}"
        return f"{owner}: unknown setting {where!r}; {hint}"
    # Of a value that may be one kind or another, every kind says what it lacks.
    kinds = errors if any(BRANCH.match(str(part)) for part in first["loc"]) else [first]
    messages = [one["msg"] for one in kinds if _where(one["loc"]) == where]
    message = " or ".join([messages[0], *(text.removeprefix("Input should be ") for text in messages[1:])])
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if not where:
        return f"{owner}: {message}"
    shown = "" if first["type"] == "missing" else f"={_short(first['input'])}"
    return f"{owner}: {where}{shown}: {message[0].lower()}{message[1:]}"


BRANCH = re.compile(r"(constrained-\w+|literal\[.*\]|str|int|float|bool)$")
"What pydantic calls the kinds of a value behind the path of its setting."


def _where(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location if not BRANCH.match(str(part)))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return value.to_json()
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:  # no JSON, or a number of thousands of digits
        return value


def _place(values: dict[str, Any], path: str, value: Any, known: list[str]) -> None:
    *parents, last = path.split(".")
    node: Any = values
    for part in parents:
        node = node.get(part) if isinstance(node, dict) else None
    if not isinstance(node, dict) or last not in node:
        near = difflib.get_close_matches(path, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise ConfigError(f"unknown setting {path!r}; {hint}")
    node[last] = value
