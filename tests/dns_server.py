"""A DNS server of the test's own, in a thread: SRV records, and hosts that are all this machine."""

import socket
import threading
from typing import Self

import dns.asyncresolver
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


class DnsServer:
    """Answers from a table: name without the last dot -> records, as `0 0 2380 host.`.

    The hosts of these records are 127.0.0.1. Programs that can't be told a port ask port 53.
    """

    def __init__(
        self, records: dict[str, list[str]], *, address: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.records = records
        self._hosts = {it.split()[-1].rstrip(".") for them in records.values() for it in them}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, port))
        self.address = address
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # An empty datagram ends the thread.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", (self.address, self.port))
        self._thread.join()
        self._socket.close()

    def resolver(self) -> dns.asyncresolver.Resolver:
        """A resolver that asks this server only."""
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = [self.address], self.port
        return resolver

    def _serve(self) -> None:
        while True:
            data, client = self._socket.recvfrom(4096)
            if not data:
                return
            query = dns.message.from_wire(data)
            response = dns.message.make_response(query)
            question = query.question[0]
            name = question.name.to_text(omit_final_dot=True)
            if name in self._hosts:
                if question.rdtype == dns.rdatatype.A:
                    response.answer.append(
                        dns.rrset.from_text(question.name, 60, "IN", "A", "127.0.0.1")
                    )
            elif name in self.records:
                found = self.records[name]
                response.answer.append(dns.rrset.from_text(question.name, 60, "IN", "SRV", *found))
            else:
                response.set_rcode(dns.rcode.NXDOMAIN)
            self._socket.sendto(response.to_wire(), client)
