"""Names in Redis, the same for producer and consumers."""

# Labels of lanes that have had an order.
LANES = "orders:lanes"
# One line for each order that is done.
DONE = "orders:done"
# Lanes that each consumer takes, to look at.
TAKES = "orders:takes"
# The consumer group of every stream.
GROUP = "workers"
# Fields of a message that go on with the calls made for it.
CARRIED = ("x-mesh-lane", "baggage", "traceparent")


def stream(lane):
    """The stream of a lane's orders; an empty label means baseline."""
    return f"orders:{lane}" if lane else "orders"
