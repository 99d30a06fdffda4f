"""A certificate authority of the tests' own; its files are good for 127.0.0.1."""

from pathlib import Path

import trustme


class Authority:
    """A certificate authority and the files that it issues."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self._directory = directory
        self.path = str(directory / f"{name}.pem")
        self._ca.cert_pem.write_to_path(self.path)

    def issue(self, name: str, *hosts: str) -> tuple[str, str]:
        """Write a certificate for 127.0.0.1, and for others, and its key; replaces an older one."""
        leaf = self._ca.issue_cert(
            "127.0.0.1", *hosts, common_name=name, key_type=trustme.KeyType.ECDSA
        )
        cert, key = self._directory / f"{name}.pem", self._directory / f"{name}-key.pem"
        cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        key.write_bytes(leaf.private_key_pem.bytes())
        return str(cert), str(key)
