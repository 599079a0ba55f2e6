"""One queue protocol and the houses that keep it; and what people may see of the machine."""

from exkiq.queues.house_queue import HouseQueue
from exkiq.queues.local import LocalHouse
from exkiq.queues.protocol import Done, House, Outcome, error_of, raise_or_return

__all__ = ["House", "Done", "Outcome", "error_of", "raise_or_return", "LocalHouse", "HouseQueue"]
