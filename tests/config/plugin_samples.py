"""Parts as users write them, good and bad."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol


class Greeter(ABC):
    @abstractmethod
    def greet(self) -> str: ...


class Hummer(Protocol):
    def hum(self) -> None: ...
    def stop(self) -> None: ...


@dataclass(frozen=True)
class Polite(Greeter):
    name: str = "nobody"

    def greet(self) -> str:
        return f"hello {self.name}"


class Loud(Greeter):
    """Keeps its argument where nobody finds it."""

    def __init__(self, name: str) -> None:
        self._shouted = name.upper()

    def greet(self) -> str:
        return self._shouted


class Mute(Greeter):
    def greet(self) -> str:
        return ""


class Bird:
    """Derives from nothing and can all that is asked."""

    def hum(self) -> None: ...
    def stop(self) -> None: ...


class Angry(Greeter):
    def __init__(self) -> None:
        raise SystemExit("not with me")

    def greet(self) -> str:
        return ""

    def __repr__(self) -> str:
        raise RuntimeError("nor with my name")


not_a_class = 3
