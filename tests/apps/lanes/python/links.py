"""The links that a program serves, as its arguments say."""

import sys
from dataclasses import dataclass


@dataclass
class Link:
    """One link: where it listens, how it is called, and whom it calls when."""

    listen: tuple
    name: str
    outbound: str
    next: str | None
    late: float | None
    worker: bool

    def own(self, headers):
        """What the link says of itself."""
        return f"{self.name}[{headers.get('x-mesh-lane', '-')}]"

    def url(self, path):
        """Where the call to the next link goes: to the sidecar, which looks at the host."""
        return f"http://{self.outbound}{path}"

    def host(self):
        """Name of the next service."""
        return {"Host": self.next}


def parse(text):
    """One argument."""
    listen, name, outbound, next_name, behaviour = text.split(",")
    address, port = listen.rsplit(":", 1)
    late = float(behaviour.removeprefix("late:")) if behaviour.startswith("late:") else None
    next_name = None if next_name == "-" else next_name
    return Link((address, int(port)), name, outbound, next_name, late, behaviour == "worker")


def arguments():
    """All links of the command line."""
    return [parse(text) for text in sys.argv[1:]]
