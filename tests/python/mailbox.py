"""A mail program's session by imapclient: ID before login, LOGIN, FETCH, IDLE, and a message that comes meanwhile.

Arguments: host, port, CA, user, password; then the cell's port and the user's password there, for the message.
"""

import ssl
import sys

from imapclient import IMAPClient

HOST, PORT, CA, USER, PASSWORD, CELL_PORT, CELL_PASSWORD = sys.argv[1:]
context = ssl.create_default_context(cafile=CA)


def connect(port):
    return IMAPClient(HOST, port=int(port), ssl=True, ssl_context=context, timeout=30)


with connect(PORT) as client:
    print("before", " ".join(sorted(c.decode() for c in client.capabilities())))
    print("id", bool(client.id_({"name": "story", "version": "1", "x-originating-ip": "203.0.113.9"})))
    client.login(USER, PASSWORD)
    print("after", " ".join(sorted(c.decode() for c in client.capabilities())))
    exists = client.select_folder("INBOX")[b"EXISTS"]
    print("exists", exists)
    for number, data in client.fetch([1], [b"RFC822"]).items():
        print("message", number, len(data[b"RFC822"]))
        print(data[b"RFC822"].decode())
    client.idle()
    with connect(CELL_PORT) as cell:
        cell.login(USER, CELL_PASSWORD)
        cell.append("INBOX", b"Subject: meanwhile\r\n\r\nBonjour\r\n")
    # From here on nothing is sent: only what the cell says by itself can come.
    told = []
    while not any(word == b"EXISTS" for _, word, *_ in told):
        more = client.idle_check(timeout=30)
        assert more, "nothing was pushed"
        told += more
    assert (exists + 1, b"EXISTS") in told, told
    print("pushed", exists + 1)
    print("idle", client.idle_done()[0].decode())
