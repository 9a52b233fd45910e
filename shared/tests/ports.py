"""Free ports for the real back ends that tests start."""

import socket


def free_ports(n: int) -> list[int]:
    """Return n different ports of loopback that nobody listens on now."""
    sockets = [socket.socket() for _ in range(n)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
