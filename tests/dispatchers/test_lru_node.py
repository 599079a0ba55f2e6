"""LRUNode: the node used least recently, idle nodes first; and its quick way is the same."""

from hypothesis import given
from hypothesis import strategies as st

from exkiq.dispatchers import Dealer, LRUNode, Offer

ALL = ("a", "b", "c")


def offer(*nodes: str) -> Offer:
    return Offer("job-1", "default", nodes or ALL)


def dealt(dispatcher: LRUNode, count: int, *nodes: str) -> list[str]:
    hands = dispatcher.deal(count, nodes or ALL)
    positions = list(range(count))
    owners = {at: node for node, part in hands for at in positions[part]}
    assert sorted(owners) == positions[: len(owners)]
    return [owners[at] for at in sorted(owners)]


def test_three_nodes_with_two_slots_take_turns() -> None:
    """The order would not be a, b, c, a, b, c."""
    single, quick = LRUNode(), LRUNode()
    for node in ("a", "a", "b", "b", "c", "c"):
        single.check_in(node)
    for node in ALL:
        quick.room(node, 2, 0)
    taken = [single.check_out(offer()) for _ in range(7)]
    assert taken == ["a", "b", "c", "a", "b", "c", None]
    assert dealt(quick, 7) == ["a", "b", "c", "a", "b", "c"]
    assert not quick.available()


def test_a_node_without_a_free_slot_leaves_the_ring() -> None:
    """A full node would be given more than it has slots."""
    dispatcher = LRUNode()
    dispatcher.room("a", 1, 0)
    dispatcher.room("b", 3, 0)
    assert dealt(dispatcher, 9) == ["a", "b", "b", "b"]


def test_no_node_gets_a_second_job_while_another_is_idle() -> None:
    """b, which finished its job, would wait while a, used longer ago, gets a second one."""
    dispatcher = LRUNode()
    dispatcher.room("a", 2, 0)
    dispatcher.room("b", 2, 0)
    assert dealt(dispatcher, 2) == ["a", "b"]
    dispatcher.room("b", 2, 1)  # its slot is free again; the completion is not applied yet
    assert dispatcher.check_out(offer()) == "b"
    assert dispatcher.check_out(offer()) == "a"


def test_only_nodes_that_serve_the_queue_are_used() -> None:
    """A job would go to a node that does not know its queue."""
    dispatcher = LRUNode()
    for node in ALL:
        dispatcher.room(node, 2, 0)
    assert dealt(dispatcher, 6, "b", "c") == ["b", "c", "b", "c"]
    assert dispatcher.check_out(offer("b")) is None
    assert dispatcher.check_out(offer("a", "b")) == "a"


def test_what_a_new_leader_sees_running_counts_as_busy() -> None:
    """After an election the busy node would be taken for an idle one."""
    dispatcher = LRUNode()
    dispatcher.room("a", 5, 3)
    dispatcher.room("b", 1, 0)
    assert dispatcher.check_out(offer()) == "b"
    assert dispatcher.check_out(offer()) == "a"


def test_the_log_corrects_what_is_out() -> None:
    """A slot that never came back as a message would leave its node busy for ever."""
    dispatcher = LRUNode()
    dispatcher.room("a", 2, 0)
    dispatcher.room("b", 5, 0)
    assert dealt(dispatcher, 2) == ["a", "b"]
    dispatcher.room("a", 1, 1)
    dispatcher.room("b", 4, 0)
    assert dispatcher.check_out(offer()) == "b"


def test_it_knows_and_forgets_nodes() -> None:
    """A lost node would stay in the ring."""
    dispatcher = LRUNode()
    assert isinstance(dispatcher, Dealer)
    assert not dispatcher.available()
    dispatcher.check_in("a")
    assert dispatcher.known("a")
    dispatcher.remove("a")
    dispatcher.remove("a")
    assert not dispatcher.known("a")
    assert dispatcher.check_out(offer()) is None


rooms = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 5), st.integers(0, 3)), max_size=8
)


@given(rooms, st.integers(0, 20), rooms, st.integers(0, 20), st.sets(st.sampled_from("abcdef")))
def test_dealing_is_checking_out_in_turn(
    before: list[tuple[str, int, int]],
    first: int,
    after: list[tuple[str, int, int]],
    second: int,
    nodes: set[str],
) -> None:
    """The quick way would choose other nodes than the plain one."""
    single, quick = LRUNode(), LRUNode()
    for announced, count in ((before, first), (after, second)):
        for node, free, running in announced:
            single.room(node, free, running)
            quick.room(node, free, running)
        taken = [single.check_out(offer(*nodes, "-")) for _ in range(count)]
        assert dealt(quick, count, *nodes, "-") == [node for node in taken if node]
