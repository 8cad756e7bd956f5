"""Configs: strict, frozen, one line of error, one serialiser, one fingerprint, dotted overrides."""

import json
from typing import Annotated, Literal

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, model_validator

from raydistill.config import Config, fingerprint, flatten
from raydistill.errors import ConfigError, RaydistillError, UnknownNameError


class Inner(Config):
    iterations: int = Field(100, ge=1)
    "Updates."
    lr_img: float = Field(1.0, gt=0)
    mode: Literal["real", "noise"] = "real"


class Outer(Config):
    name: str = "run"
    seed: int = 0
    sizes: tuple[int, ...] = (1, 2)
    inner: Inner = Inner()
    other: Inner | None = None
    limit: float | None = None

    @model_validator(mode="after")
    def _fits(self) -> "Outer":
        if self.seed > 10 and self.inner.mode == "noise":
            raise ValueError(f"seed={self.seed} has no effect with noise; lower it")
        return self


inners = st.builds(
    Inner,
    iterations=st.integers(1, 10**6),
    lr_img=st.floats(1e-9, 1e9),
    mode=st.sampled_from(["real", "noise"]),
)
outers = st.builds(
    Outer,
    name=st.text(max_size=8),
    seed=st.integers(-5, 10),
    sizes=st.lists(st.integers(0, 9), max_size=3).map(tuple),
    inner=inners,
    other=st.none() | inners,
    limit=st.none() | st.floats(0, 5).map(abs),
)
derandomized = settings(max_examples=80, deadline=None, derandomize=True)


def message(*arguments: object, call: type[Config] = Outer, **values: object) -> str:
    """The one line with which a constructor refuses ``values``."""
    with pytest.raises(ConfigError) as caught:
        call(*arguments, **values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_value_out_of_range_names_field_value_and_rule() -> None:
    assert message(call=Inner, iterations=0) == "Inner: iterations=0: input should be greater than or equal to 1"
    assert message(inner={"lr_img": -2.0}) == "Inner: lr_img=-2.0: input should be greater than 0"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("two", "input should be a valid integer, unable to parse string as an integer or 'all'"),
        (-1, "input should be greater than or equal to 0 or 'all'"),
    ],
)
def test_of_a_setting_of_several_kinds_each_says_what_it_lacks(value: object, message: str) -> None:
    class Kinds(Config):
        """A number or a word, and another setting that is wrong too."""

        how_many: Annotated[int, Field(ge=0)] | Literal["all"] = 1
        other: int = 1

    with pytest.raises(ConfigError) as raised:
        Kinds.parse({"how_many": value, "other": value if value == "two" else 1})
    assert str(raised.value).endswith(f"Kinds: how_many={value!r}: {message}")


def test_an_unknown_setting_names_the_nearest() -> None:
    assert message(call=Inner, iteration=5) == "Inner: unknown setting 'iteration'; did you mean 'iterations'?"
    assert "known: iterations, lr_img, mode" in message(call=Inner, zzz=5)


def test_an_unknown_setting_further_inside_names_the_nearest_there() -> None:
    assert message(inner={"iteration": 5}) == "Inner: unknown setting 'iteration'; did you mean 'iterations'?"
    assert "known: iterations, lr_img, mode" in message(inner={"zzz": 5})
    assert "did you mean 'lr_img'?" in message(other={"lr_imgs": 5})


def test_a_combination_without_effect_is_refused() -> None:
    assert message(seed=11, inner=Inner(mode="noise")) == "Outer: seed=11 has no effect with noise; lower it"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "fast", None, [1]])
def test_what_is_no_finite_number_is_refused(bad: object) -> None:
    assert "lr_img" in message(call=Inner, lr_img=bad)


def test_a_long_value_is_shortened() -> None:
    assert len(message(seed="x" * 5000)) < 200


def test_frozen() -> None:
    config = Outer()
    with pytest.raises(pydantic.ValidationError):
        setattr(config, "seed", 3)  # noqa: B010 - what a type checker would refuse


def test_errors_are_one_family() -> None:
    assert issubclass(ConfigError, RaydistillError)
    assert issubclass(UnknownNameError, ConfigError)


@given(outers)
@derandomized
def test_json_reads_back(config: Outer) -> None:
    assert Outer.parse(json.loads(json.dumps(config.to_json()))) == config


@given(outers)
@derandomized
def test_flat_values_put_back_by_override_give_the_same(config: Outer) -> None:
    changes: dict[str, object] = {path: value for path, value in config.flat().items() if path != "sizes"}
    if config.other is not None:
        changes = {k: v for k, v in changes.items() if not k.startswith("other.")} | {"other": config.other}
    # Texts go in as JSON, since override reads texts as JSON where it can.
    changes = {k: json.dumps(v) if isinstance(v, str) else v for k, v in changes.items()}
    assert Outer(sizes=config.sizes).override(changes) == config


def test_flat_paths_are_dotted_and_in_field_order() -> None:
    flat = Outer(other=Inner()).flat()
    assert list(flat)[:7] == [
        "name",
        "seed",
        "sizes",
        "inner.iterations",
        "inner.lr_img",
        "inner.mode",
        "other.iterations",
    ]
    assert flat["sizes"] == "1,2"
    assert flat["limit"] is None


def test_flatten_numbers_lists_of_mappings() -> None:
    assert flatten({"a": [{"b": 1}, {"b": 2}], "c": []}) == {"a.0.b": 1, "a.1.b": 2, "c": ""}


@given(outers, outers)
@derandomized
def test_fingerprints_differ_exactly_where_values_do(a: Outer, b: Outer) -> None:
    assert (a.fingerprint() == b.fingerprint()) == (a == b)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "other"),
        ("seed", 1),
        ("sizes", [2, 1]),
        ("inner.iterations", 101),
        ("inner.lr_img", 1.0000000000000002),
        ("inner.mode", "noise"),
        ("other", {}),
        ("limit", 0.0),
    ],
)
def test_every_single_change_changes_the_fingerprint(path: str, value: object) -> None:
    assert Outer().override({path: value}).fingerprint() != Outer().fingerprint()


def test_fingerprints_are_the_same_on_every_machine_and_in_every_version() -> None:
    assert Outer().fingerprint() == fingerprint(
        {
            "limit": None,
            "other": None,
            "inner": {"mode": "real", "lr_img": 1.0, "iterations": 100},
            "sizes": [1, 2],
            "seed": 0,
            "name": "run",
        }
    )
    assert fingerprint({"a": 1, "b": [1.5, None, "ü"]}) == "6edee93cbe7c80ec"


def test_the_order_of_keys_does_not_matter_and_the_order_of_lists_does() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint([1, 2]) != fingerprint([2, 1])


def test_what_json_cannot_hold_has_no_fingerprint() -> None:
    with pytest.raises(ValueError, match="JSON"):
        fingerprint({"a": float("nan")})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seed": 3}, Outer(seed=3)),
        ({"seed": "3"}, Outer(seed=3)),
        ({"inner.lr_img": "1e-3"}, Outer(inner=Inner(lr_img=0.001))),
        ({"inner.mode": "noise"}, Outer(inner=Inner(mode="noise"))),
        ({"inner.mode": '"noise"'}, Outer(inner=Inner(mode="noise"))),
        ({"sizes": "[4, 5]"}, Outer(sizes=(4, 5))),
        ({"sizes": (4, 5)}, Outer(sizes=(4, 5))),
        ({"limit": "null"}, Outer()),
        ({"other": Inner(iterations=7)}, Outer(other=Inner(iterations=7))),
        ({"other": '{"iterations": 7}', "seed": 1}, Outer(other=Inner(iterations=7), seed=1)),
        ({"other": Inner(), "other.iterations": 9}, Outer(other=Inner(iterations=9))),
        ({}, Outer()),
    ],
)
def test_override(changes: dict[str, object], expected: Outer) -> None:
    assert Outer().override(changes) == expected


def test_override_leaves_the_original() -> None:
    config = Outer()
    config.override({"inner.iterations": 7})
    assert config == Outer()


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("inner.iteration", "did you mean 'inner.iterations'?"),
        ("iterations", "did you mean 'inner.iterations'?"),
        ("inner.mode.deep", "'inner.mode'"),
        ("other.iterations", "did you mean"),
        ("", "known: name, seed"),
        ("....", "known: name, seed"),
    ],
)
def test_override_of_an_unknown_path_names_the_nearest(path: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Outer().override({path: 1})
    assert str(caught.value).startswith(f"unknown setting {path!r}; ")
    assert hint in str(caught.value)


def test_override_checks_the_whole() -> None:
    with pytest.raises(ConfigError, match="seed=11 has no effect"):
        Outer(inner=Inner(mode="noise")).override({"seed": 11})
    with pytest.raises(ConfigError, match="lr_img=-1"):
        Outer().override({"inner.lr_img": "-1"})


@given(
    path=st.text(max_size=12), value=st.none() | st.integers() | st.text(max_size=5) | st.floats(), field=st.booleans()
)
@derandomized
def test_whatever_is_overridden_it_works_or_is_refused_in_one_line(path: str, value: object, field: bool) -> None:
    path = "inner.lr_img" if field else path
    try:
        assert isinstance(Outer().override({path: value}), Outer)
    except ConfigError as error:
        assert "\n" not in str(error)


def test_field_docstrings_are_descriptions() -> None:
    assert Inner.model_fields["iterations"].description == "Updates."
