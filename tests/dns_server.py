"""A DNS server for SRV questions, in a thread of the test, on a port of its own."""

import socket
import threading
from typing import Self

import dns.asyncresolver
import dns.message
import dns.rcode
import dns.rrset


class DnsServer:
    """Answers from a table: name without the last dot -> records, as `0 0 2380 host.`."""

    def __init__(self, records: dict[str, list[str]]) -> None:
        self.records = records
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # An empty datagram ends the thread.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def resolver(self) -> dns.asyncresolver.Resolver:
        """A resolver that asks this server only."""
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], self.port
        return resolver

    def _serve(self) -> None:
        while True:
            data, client = self._socket.recvfrom(4096)
            if not data:
                return
            query = dns.message.from_wire(data)
            response = dns.message.make_response(query)
            name = query.question[0].name
            found = self.records.get(name.to_text(omit_final_dot=True))
            if found is None:
                response.set_rcode(dns.rcode.NXDOMAIN)
            else:
                response.answer.append(dns.rrset.from_text(name, 60, "IN", "SRV", *found))
            self._socket.sendto(response.to_wire(), client)
