"""Queues of one process: the same machine as on a cluster, in a house of its own.

place       `Local`, what users write
terms       what is said of a queue besides its name
registry    which of them this process knows, and the households they stand in
household   a thread with a machine, and those who run its jobs
rooms       the hand of a machine, its sessions, and the server of its clients
runner      slots in this process: threads for `def`, one loop for `async def`
workshop    the thread and loop of the jobs, and one slot's two sides
tasks       the tasks of this process by name, those that nobody can import included
doorway     a client's link that stays inside the process
hosting     local queues of a node, and the way to those of other nodes
remote      the client of another node's queue
"""

from exkiq.local.place import Local

__all__ = ["Local"]
