"""What clients and members of a soak run have agreed upon."""

from typing import Final

PORT: Final = 2379
PEER_PORT: Final = 2380
USER: Final = "root"
PASSWORD: Final = "soak"
