"""Messages: the union is complete, and each class is documented and cheap."""

import dataclasses
import inspect
from typing import get_args

import pytest

from raft import messages
from raft.entry import NORMAL, Entry
from raft.messages import Append, AppendResponse, Envelope, Message

classes = get_args(Message)


def test_union_holds_every_class_of_the_module_but_the_envelope() -> None:
    """A class forgotten in the union would escape every exhaustive match."""
    defined = {
        member
        for _, member in inspect.getmembers(messages, inspect.isclass)
        if member.__module__ == messages.__name__
    }
    assert defined == {*classes, Envelope}


@pytest.mark.pure("compiled classes have neither a text nor slots to look at")
@pytest.mark.parametrize("message_class", [*classes, Envelope])
def test_message_class_is_a_documented_dataclass_with_slots(message_class: type) -> None:
    """The module is the protocol's document, and messages are made on the hot path."""
    assert dataclasses.is_dataclass(message_class)
    assert inspect.getdoc(message_class)
    assert "__slots__" in vars(message_class)


def test_messages_compare_by_value_and_class() -> None:
    """Tests compare what was sent with what is expected."""
    entry = Entry(4, 2, NORMAL, b"x")
    assert Append(3, 2, 1, [entry]) == Append(3, 2, 1, [entry])
    assert Envelope(1, 2, 3, AppendResponse(4)) == Envelope(1, 2, 3, AppendResponse(4))
    assert Envelope(1, 2, 3, AppendResponse(4)) != Envelope(1, 2, 3, AppendResponse(5))
