"""Every setting, once: the help of `exkiq start`, `config/exkiq.toml` and the README follow it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from exkiq.config.kinds import (
    Address,
    Choice,
    Count,
    Folder,
    Interface,
    Kind,
    Seconds,
    Secret,
    Several,
    Switch,
    Text,
    Weights,
)

NAME = Text(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}",
    "1 to 63 letters, digits, dots, dashes or underscores, a letter or digit first",
)
MODULE = Text(
    r"(?!.*\.py$)[^\W\d]\w*(\.[^\W\d]\w*)*", "a module name such as myapp.workers, dots and no .py"
)

CONCURRENCY_MAX = 10_000  # jobs a process; async jobs go far, thousands is what people try
PROCESSES_MAX = 1_024
VOTERS_MAX = 5  # the most that found a cluster together; later nodes follow without a vote


class Place(Enum):
    """Where a setting may be given."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    FILE = "file"
    KEYWORD = "keyword"


EVERYWHERE = frozenset(Place)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: what it is called in each place, what it takes, what it means.

    `default_text` stands for a default that depends on the machine, and `example` is then
    shown in its place; `flag` is spelled out where it is not the name.
    """

    name: str
    kind: Kind
    default: object
    sentence: str
    default_text: str = ""
    example: str = ""
    flag: str = ""
    metavar: str = ""
    places: frozenset[Place] = EVERYWHERE

    @property
    def flags(self) -> str:
        """As written on the command line: `--bind`, `--mdns/--no-mdns`, or APP."""
        flag = self.flag or "--" + self.name.replace("_", "-")
        return f"{flag}/--no-{flag[2:]}" if isinstance(self.kind, Switch) else flag

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"EXKIQ_{self.name.upper()}"


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "app", Several(MODULE), (), "Modules that define the workers.", flag="APP", metavar="APP"
    ),
    Setting(
        "name",
        NAME,
        "",
        "Name of this node in its cluster; it stays the same when the node is started again.",
        default_text="the host's name",
        example='"web-1"',
        metavar="NAME",
    ),
    Setting(
        "cluster",
        NAME,
        "default",
        "Name of the cluster; nodes of other clusters are left alone.",
        metavar="NAME",
    ),
    Setting(
        "data_dir",
        Folder(),
        None,
        "Folder that holds the journal and snapshots of this node.",
        default_text="exkiq/CLUSTER/NAME in $XDG_STATE_HOME or ~/.local/state",
        example='"/var/lib/exkiq"',
        metavar="DIR",
    ),
    Setting(
        "memory",
        Switch(),
        False,
        "Write nothing to disk; jobs live as long as a majority of the nodes.",
    ),
    Setting(
        "bind",
        Address(port_low=0),
        "127.0.0.1:0",
        "Address to listen on; port 0 takes a free one. Other machines reach the node only when "
        "this is the machine's own address in their network, and then a secret is needed.",
        metavar="HOST:PORT",
    ),
    Setting(
        "interfaces",
        Several(Interface()),
        ("127.0.0.1",),
        "Addresses of the network interfaces on which mDNS announces and looks for nodes.",
        flag="--interface",
        metavar="ADDR",
    ),
    Setting(
        "peers",
        Several(Address(port_low=1)),
        (),
        "Nodes to connect to, beside or instead of those that mDNS finds.",
        flag="--peer",
        metavar="HOST:PORT",
    ),
    Setting("mdns", Switch(), True, "Find other nodes by mDNS."),
    Setting(
        "bootstrap_expect",
        Count(1, VOTERS_MAX),
        1,
        "Number of fresh nodes that found a cluster together; with 1, a node that finds no "
        "cluster founds one alone.",
        metavar="N",
    ),
    Setting(
        "queues",
        Weights(),
        {},
        "Queues this node serves, each with its share of the work; in a file also with a table of "
        "its own.",
        default_text="those the modules declare, and default",
        example="{ emails = 3, default = 1 }",
        metavar="NAME:WEIGHT,...",
    ),
    Setting(
        "processes",
        Count(1, PROCESSES_MAX),
        0,
        "Child processes that run jobs.",
        default_text="the number of cores",
        example="4",
        metavar="P",
    ),
    Setting(
        "concurrency",
        Count(0, CONCURRENCY_MAX),
        10,
        "Jobs that run at once in each process; 0 makes a node that keeps and serves the queue "
        "and runs nothing.",
        metavar="C",
    ),
    Setting(
        "secret_file",
        Folder(),
        None,
        "File with the secret that all nodes and clients of the cluster share: 32 bytes or "
        "more, readable by its owner only. Of several lines the first is used, each accepted.",
        default_text="none",
        example='"/etc/exkiq/secret"',
        metavar="FILE",
    ),
    Setting(
        "secret",
        Secret(),
        None,
        "The secret itself.",
        default_text="none",
        places=frozenset({Place.ENVIRONMENT, Place.KEYWORD}),
    ),
    Setting(
        "insecure",
        Switch(),
        False,
        "Allow other machines to connect without a secret: anyone there can run your workers.",
    ),
    Setting(
        "tls_cert",
        Folder(),
        None,
        "Certificate of this node, in PEM format, with the node's name as DNS name; with tls_key "
        "and tls_ca all connections between machines are encrypted.",
        default_text="none",
        example='"/etc/exkiq/n1.pem"',
        metavar="FILE",
    ),
    Setting(
        "tls_key",
        Folder(),
        None,
        "Key of that certificate, without a password, readable by its owner only.",
        default_text="none",
        example='"/etc/exkiq/n1.key"',
        metavar="FILE",
    ),
    Setting(
        "tls_ca",
        Folder(),
        None,
        "Certificate of the CA that signed those of all nodes and clients.",
        default_text="none",
        example='"/etc/exkiq/ca.pem"',
        metavar="FILE",
    ),
    Setting(
        "drain_timeout",
        Seconds(0, 86_400),
        10.0,
        "Seconds that running jobs have to finish when the node stops; the rest is handed back.",
        metavar="SECONDS",
    ),
    Setting(
        "node_timeout",
        Seconds(0.5, 300),
        2.0,
        "Seconds of silence after which a node counts as lost and its jobs go to others.",
        metavar="SECONDS",
    ),
    Setting(
        "claim_timeout",
        Seconds(0.1, 60),
        1.0,
        "Seconds in which a child process must begin a job it was given; else the job goes back "
        "to the front of its queue, neither failed nor lost.",
        metavar="SECONDS",
    ),
    Setting(
        "replace_after",
        Seconds(0, 2_592_000),
        300.0,
        "Seconds after which the vote of a lost node goes to a node beyond the five voters, if "
        "there is one that has the whole log; 0 is never. It follows on when it comes back.",
        metavar="SECONDS",
    ),
    Setting(
        "join_wait",
        Seconds(0, 3_600),
        3.0,
        "Seconds a fresh node looks for a cluster to join before it founds one.",
        metavar="SECONDS",
    ),
    Setting(
        "leave_on_stop",
        Switch(),
        False,
        "Leave the cluster when stopping, as a node that will not come back; memory implies it.",
    ),
    Setting(
        "log_level",
        Choice(("DEBUG", "INFO", "WARNING", "ERROR")),
        "INFO",
        "The least severe lines to log.",
        metavar="LEVEL",
    ),
)

BY_NAME = {setting.name: setting for setting in SETTINGS}
