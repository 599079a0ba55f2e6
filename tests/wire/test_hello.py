"""What two releases say of themselves: the later one more, the earlier one less."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exkiq.errors import RemoteWireError
from exkiq.wire.hello import Hello
from tests.wire.test_handshake import A, acceptor, dialer, talk


def said(fields):
    """What an acceptor agrees to know of a dialler whose hello has these fields."""

    class Odd(Hello):
        def fields(self):
            return fields

    mine = replace(A)
    odd = Odd(**{name: getattr(mine, name) for name in A.__dataclass_fields__})
    return talk(dialer(odd), acceptor()).acceptor.peer


def test_a_later_release_may_say_more_and_an_earlier_one_less():
    """Old and new nodes could not run side by side, and a release would be an outage."""
    assert said(A.fields() | {"schema": 7, "colour": "red"}) == replace(A, schema=7)
    earlier = {name: text for name, text in A.fields().items() if name != "schema"}
    assert said(earlier) == replace(A, schema=1)


@pytest.mark.parametrize("schema", [0, -1, True, "2", None, 2**63])
def test_a_schema_is_a_number_from_1_on(schema):
    with pytest.raises(RemoteWireError, match="schema is no number"):
        Hello.from_fields(A.fields() | {"schema": schema})
