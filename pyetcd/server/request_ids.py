"""Ids by which whoever waits for a request finds its result. Pure; the layout is etcd's."""


class RequestIds:
    """Makes ids that no other request of this member has, before or after a restart.

    An id is 2 bytes of the member's id, 5 bytes of the time when the member started, 1 byte of
    count. The count runs over into the time, which stays ahead of it: no member takes 256 requests
    in every millisecond of its life.
    """

    __slots__ = ("_prefix", "_suffix")

    def __init__(self, member: int, *, now_milliseconds: int) -> None:
        self._prefix = (member & 0xFFFF) << 48
        self._suffix = (now_milliseconds & 0xFF_FFFF_FFFF) << 8

    def next(self) -> int:
        """Return a new id; never 0."""
        self._suffix += 1
        return self._prefix | (self._suffix & 0xFFFF_FFFF_FFFF)
