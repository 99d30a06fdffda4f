"""What a client can run into besides a refusal that etcd names by a code.

Refusals with a code are `pyetcd.errors.EtcdError`. The texts here are those of etcd's own client,
because programs and people look for them. Relies on nothing.
"""

from dataclasses import dataclass


class ClientError(Exception):
    """The request has no answer that could be used."""


class BadSetting(ClientError):
    """An endpoint, a certificate file or a DNS name that the caller gave cannot be used."""


class NoEndpoints(ClientError):
    """There is no endpoint to ask."""

    def __str__(self) -> str:
        """Return etcd's wording."""
        return "client: no endpoints available"


class NotEtcd(ClientError):
    """Somebody answered, in a form that no etcd uses."""

    def __str__(self) -> str:
        """Return etcd's wording."""
        return (
            "client: response is invalid json. "
            "The endpoint is probably not valid etcd cluster endpoint."
        )


class Refused(ClientError):
    """The server said no, with a status and a text but no code: members and auth do so."""

    def __init__(self, status: int, message: str = "") -> None:
        """Keep both; an answer without a text is named by its status."""
        super().__init__(status, message)
        self.status = status
        self.message = message or f"unexpected status code {status}"

    def __str__(self) -> str:
        """Return the server's text."""
        return self.message


@dataclass(frozen=True, slots=True)
class Attempt:
    """Why one endpoint gave no answer."""

    endpoint: str
    reason: str
    # The request did not leave this machine, so it cannot have had an effect.
    unsent: bool = False
    # No connection. False where there was one, and then no answer in time, or none that helps.
    unreachable: bool = True


class Unavailable(ClientError):
    """No endpoint could be had for the request.

    A write that may have arrived is not sent to a second endpoint; it ends here, and `maybe_done`
    says that it may have had its effect.
    """

    def __init__(self, attempts: tuple[Attempt, ...], *, maybe_done: bool = False) -> None:
        """Keep what each endpoint did, in the order they were asked."""
        super().__init__(attempts, maybe_done)
        self.attempts = attempts
        self.maybe_done = maybe_done

    def __str__(self) -> str:
        """Return etcd's wording; the reasons are in `attempts`."""
        return "client: etcd cluster is unavailable or misconfigured"

    @property
    def unreachable(self) -> bool:
        """Whether there was no connection to anybody."""
        return all(attempt.unreachable for attempt in self.attempts)
