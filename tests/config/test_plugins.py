"""Parts that users replace: the ways to give one, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from exkiq.config.plugins import check_row, load_class, load_plugin, row_of, shown
from exkiq.errors import ConfigError
from tests.config.plugin_samples import Angry, Bird, Greeter, Hummer, Loud, Mute, Polite

HERE = "tests.config.plugin_samples"


@pytest.mark.parametrize(
    ("given", "greeting"),
    [
        (Polite("Ann"), "hello Ann"),
        (Polite, "hello nobody"),
        ((Polite, ("Ann",)), "hello Ann"),
        ([Polite, ["Ann"]], "hello Ann"),
        ((Polite, {"name": "Ann"}), "hello Ann"),
        (f"{HERE}:Polite", "hello nobody"),
        ((f"{HERE}:Polite", {"name": "Ann"}), "hello Ann"),
    ],
)
def test_a_part_is_given_in_any_of_the_ways(given: Any, greeting: str) -> None:
    """A form of the manual would be refused, or its arguments lost."""
    assert greeting == load_plugin("greeter", given, Greeter).greet()  # type: ignore[type-abstract]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (3, "3 is no Greeter"),
        (None, "None is no Greeter"),
        (Bird(), "does not derive from Greeter"),
        (Greeter, "cannot make Greeter: TypeError"),
        (Loud, "cannot make Loud: TypeError"),
        ((Loud, (3,)), "AttributeError"),
        ((Loud, "Ann"), "arguments are a tuple or a dict"),
        ((Loud,), "(class, arguments)"),
        ((Loud, (), ()), "(class, arguments)"),
        (Angry, "cannot make Angry: SystemExit: not with me"),
        ("greeter", '"package.module:Class"'),
        (f"{HERE}:Nobody", "AttributeError"),
        (f"{HERE}:not_a_class", "is no class"),
        ("nowhere.at_all:Class", "ModuleNotFoundError"),
        ("__import__('os'):x", '"package.module:Class"'),
        ("a" * 600 + ":B", '"package.module:Class"'),
    ],
)
def test_what_is_no_part_is_refused_by_the_name_of_its_option(given: Any, told: str) -> None:
    """A traceback out of user code would stand where a line that names the option belongs."""
    with pytest.raises(ConfigError) as caught:
        load_plugin("greeter", given, Greeter)  # type: ignore[type-abstract]
    (fault,) = caught.value.faults
    assert fault.startswith("greeter: ")
    assert told in fault
    assert "\n" not in fault


def test_a_protocol_is_kept_by_whoever_has_its_methods() -> None:
    """A dispatcher that derives from nothing, as protocols allow, would be refused."""
    assert isinstance(load_plugin("hummer", Bird, Hummer), Bird)  # type: ignore[type-abstract]
    with pytest.raises(ConfigError, match="it has no hum, stop"):
        load_plugin("hummer", Mute, Hummer)  # type: ignore[type-abstract]


@pytest.mark.parametrize(
    "given",
    [Polite("Ann"), (Polite, ("Ann",)), (f"{HERE}:Polite", {"name": "Ann"}), (Loud, ("Ann",))],
)
def test_a_row_makes_the_same_part_in_another_process(given: Any) -> None:
    """The leader would hand out by another dispatcher than was declared."""
    row = row_of("greeter", given)
    assert row == check_row("greeter", row)
    here, there = load_plugin("g", given, Greeter), load_plugin("g", row, Greeter)  # type: ignore[type-abstract]
    assert here.greet() == there.greet()


def test_what_cannot_be_made_elsewhere_is_refused_here() -> None:
    """It would be made without its arguments, or fail on the leader long after."""

    class Nested(Mute):
        pass

    assert row_of("greeter", Mute()) == [f"{HERE}:Mute", []]
    with pytest.raises(ConfigError, match=r"give \(Loud, arguments\)"):
        row_of("greeter", Loud("Ann"))
    with pytest.raises(ConfigError, match="cannot be imported by another process"):
        row_of("greeter", Nested)


@pytest.mark.parametrize("row", [3, [], ["a:B"], ["a", []], ["a:B", 3], ["a:B", [], 1], None])
def test_what_is_no_row_is_refused(row: Any) -> None:
    """Rubbish from a child or a file would reach the import."""
    with pytest.raises(ConfigError, match=r"^greeter: "):
        check_row("greeter", row)


def test_a_class_is_given_itself_or_by_its_path() -> None:
    """A pool could not be told its worker by name."""
    assert load_class("worker", Polite, Greeter) is load_class("worker", f"{HERE}:Polite", Greeter)
    for wrong in (Bird, Greeter, Polite(), 3, f"{HERE}:Bird"):
        with pytest.raises(ConfigError, match=r"^worker: "):
            load_class("worker", wrong, Greeter)


def test_a_value_is_shown_in_one_short_line() -> None:
    """A message would fill the terminal, or raise itself."""
    assert len(shown("x" * 10_000)) == 200
    assert "\n" not in shown("a\nb")
    assert "RuntimeError" in shown(Angry.__new__(Angry))
    assert shown(Mute()) == "Mute()"
