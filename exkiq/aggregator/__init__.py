"""The leader's part: demand, claims, time, lost nodes."""

from exkiq.aggregator.aggregator import Aggregator
from exkiq.aggregator.leadership import Settings

__all__ = ["Aggregator", "Settings"]
