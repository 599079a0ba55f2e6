"""LRU and MRU: which of the free slots is next."""

from exkiq.dispatchers import LRU, MRU, Dispatcher, Offer


def offer(*nodes: str) -> Offer:
    return Offer("job-1", "default", nodes)


def test_lru_hands_out_the_slot_free_longest() -> None:
    """A slot that was freed late would be used before one that waits since long."""
    lru = LRU()
    for slot in ("one", "two", "three"):
        lru.check_in(slot)
    assert lru.check_out(offer("one", "two", "three")) == "one"
    lru.check_in("one")
    taken = [lru.check_out(offer("one", "two", "three")) for _ in range(3)]
    assert taken == ["two", "three", "one"]


def test_mru_hands_out_the_slot_freed_last() -> None:
    """MRU would behave as LRU."""
    mru = MRU()
    for slot in ("one", "two", "three"):
        mru.check_in(slot)
    assert mru.check_out(offer("one", "two", "three")) == "three"
    assert mru.check_out(offer("one", "two", "three")) == "two"
    mru.check_in("three")
    assert mru.check_out(offer("one", "two", "three")) == "three"


def test_nothing_free_gives_nothing() -> None:
    """A job would be given to a slot that is busy or does not serve it."""
    for dispatcher in (LRU(), MRU()):
        assert not dispatcher.available()
        assert dispatcher.check_out(offer("one")) is None
        dispatcher.check_in("one")
        assert dispatcher.available()
        assert dispatcher.check_out(offer("two")) is None
        assert dispatcher.check_out(offer("one")) == "one"
        assert dispatcher.check_out(offer("one")) is None


def test_a_removed_slot_is_neither_known_nor_used() -> None:
    """A slot of a lost node would get jobs."""
    slots: list[Dispatcher] = [LRU(), MRU()]
    for dispatcher in slots:
        dispatcher.check_in("one")
        dispatcher.check_in("one")
        dispatcher.check_in("two")
        dispatcher.remove("one")
        dispatcher.remove("never seen")
        assert not dispatcher.known("one")
        assert dispatcher.known("two")
        assert dispatcher.check_out(offer("one", "two")) == "two"
        assert dispatcher.check_out(offer("one", "two")) is None
        assert dispatcher.known("two")
