"""Names to implementations: every entry leads somewhere, and a wrong name is answered with the right one."""

import pytest

from raydistill import registry
from raydistill.distill.method import Method, MethodConfig
from raydistill.errors import ConfigError, RaydistillError, UnknownNameError

ENTRIES = [(kind, name) for kind, table in registry.TABLES.items() for name in table]


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_entry_leads_somewhere(kind: str, name: str) -> None:
    found = registry.resolve(kind, name)
    assert isinstance(found, type)
    assert found is registry.resolve(kind, name)


@pytest.mark.parametrize("name", registry.METHODS)
def test_methods_fulfil_their_contract(name: str) -> None:
    method = registry.resolve("method", name)
    assert issubclass(method, Method)
    assert issubclass(method.Config, MethodConfig)
    assert method.Config().method == name


@pytest.mark.parametrize(
    ("kind", "wrong", "meant"),
    [
        ("method", "datadam", "DataDAM"),
        ("method", "DataDam", "DataDAM"),
        ("data source", "mnist", "MNIST or"),
        ("data source", "fashion-mnist", "FashionMNIST"),
        ("data source", "CIFAR-10", "CIFAR10"),
        ("data source", "zzz", "known: CIFAR10, "),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_one(kind: str, wrong: str, meant: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        registry.resolve(kind, wrong)
    message = str(caught.value)
    assert message.startswith(f"unknown {kind} {wrong!r}; ")
    assert meant in message
    assert "\n" not in message


def test_a_wrong_name_is_a_setting_that_a_user_can_mend() -> None:
    assert issubclass(UnknownNameError, ConfigError)
    assert issubclass(UnknownNameError, RaydistillError)
