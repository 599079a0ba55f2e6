"""Which slot gets a job. Pure: a dispatcher is a value that is told what is free.

It lives on the leader only, is not replicated, and is built anew from the nodes' announcements
after an election. What it chooses is only a proposal: the machine checks every claim.

    LRUNode     the node used least recently, idle ones first; the default of replicated queues
    LRU         the slot that has been free longest; the default of `Local`
    MRU         the slot that was freed last
    Dispatcher  the base class of your own, see `exkiq.dispatchers.protocol`
"""

from exkiq.dispatchers.lru import LRU, MRU
from exkiq.dispatchers.lru_node import LRUNode
from exkiq.dispatchers.protocol import Dealer, Dispatcher, Offer

__all__ = ["Dispatcher", "Dealer", "Offer", "LRU", "MRU", "LRUNode"]
