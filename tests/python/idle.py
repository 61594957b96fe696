"""A mail program that stays: logs in, tells where its mailbox is, waits in IDLE for its end, and comes back when told.

Arguments: host, port, CA, user, password. Each line on standard input starts a round; its end ends the program.
"""

import ssl
import sys
import time

from imapclient import IMAPClient
from imapclient.exceptions import LoginError

HOST, PORT, CA, USER, PASSWORD = sys.argv[1:]


def told(*words):
    print(*words, flush=True)


class Watched(ssl.SSLSocket):
    """Tells how the connection ends, which imapclient keeps to itself."""

    ended = False

    def recv_into(self, *args, **kwargs):
        try:
            count = super().recv_into(*args, **kwargs)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except (ssl.SSLError, ConnectionError) as end:
            self.ended = True
            told("end unclean", type(end).__name__, end)
            raise
        if count == 0:
            self.ended = True
            told("end clean")
        return count


class Strict(ssl.SSLContext):
    """An end without close_notify is an error here, as it is to careful programs."""

    sslsocket_class = Watched

    def wrap_socket(self, *args, **kwargs):
        return super().wrap_socket(*args, **(kwargs | {"suppress_ragged_eofs": False}))


context = Strict(ssl.PROTOCOL_TLS_CLIENT)
context.load_verify_locations(CA)
context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF


def round_of_mail():
    client = IMAPClient(HOST, port=int(PORT), ssl=True, ssl_context=context, timeout=50)
    try:
        client.login(USER, PASSWORD)
    except LoginError as error:
        return told("refused", error)
    client.select_folder("INBOX")
    for data in client.fetch([1], [b"BODY[TEXT]"]).values():
        told("reads", data[b"BODY[TEXT]"].decode().strip())
    client.idle()
    told("idles")
    deadline = time.monotonic() + 120
    while not client.socket().ended:
        if time.monotonic() > deadline:
            return told("end never")
        client.idle_check(timeout=5)


for _ in sys.stdin:
    round_of_mail()
