"""An HTTP/1.1 server for asyncio, made for short requests and long streams.

    def hello(request: Request) -> None:
        request.respond(200, TEXT_PLAIN, b"hello\\n")

    listener = Listener(Router([Route(b"/", {b"GET": hello})]), clock=time.time, on_crash=die)
    await listener.start(bind_tcp("127.0.0.1", 0))

A handler is a plain function. It answers during its call or later by `respond` or
`start_stream`; there is no task per request. Nothing here knows of etcd.
"""

from pyetcd.httpd.listener import Listener, ListenError, bind_tcp, bind_unix
from pyetcd.httpd.pipeline import Handler, Limits
from pyetcd.httpd.request import Fields, FormError, Request
from pyetcd.httpd.response import ERROR_HEAD, LAST_CHUNK, TEXT_PLAIN, Stream, chunk
from pyetcd.httpd.router import Route, Router, error, method_not_allowed, not_found, redirect

__all__ = [
    "Listener",
    "ListenError",
    "Limits",
    "bind_tcp",
    "bind_unix",
    "Handler",
    "Request",
    "Fields",
    "FormError",
    "Stream",
    "chunk",
    "Route",
    "Router",
    "error",
    "method_not_allowed",
    "not_found",
    "redirect",
    "ERROR_HEAD",
    "LAST_CHUNK",
    "TEXT_PLAIN",
]
