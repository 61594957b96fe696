"""A mail program's session by imapclient: ID before login, LOGIN, IDLE, FETCH. Arguments: HOST PORT CA USER PASSWORD."""

import ssl
import sys

from imapclient import IMAPClient

HOST, PORT, CA, USER, PASSWORD = sys.argv[1:6]
context = ssl.create_default_context(cafile=CA)
with IMAPClient(HOST, port=int(PORT), ssl=True, ssl_context=context, timeout=30) as client:
    print("before", " ".join(sorted(c.decode() for c in client.capabilities())))
    print("id", bool(client.id_({"name": "story", "version": "1", "x-originating-ip": "203.0.113.9"})))
    client.login(USER, PASSWORD)
    print("after", " ".join(sorted(c.decode() for c in client.capabilities())))
    print("exists", client.select_folder("INBOX")[b"EXISTS"])
    client.idle()
    client.idle_check(timeout=0.1)
    print("idle", client.idle_done()[0].decode())
    for number, data in client.fetch([1], [b"RFC822"]).items():
        print("message", number, len(data[b"RFC822"]))
        print(data[b"RFC822"].decode())
