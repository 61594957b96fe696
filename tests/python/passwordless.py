"""Python's IMAP client without a password: reads the first message.

Arguments: HOST PORT CA, then `EXTERNAL CERTIFICATE KEY` or `XOAUTH2 USER TOKEN`.
"""

import imaplib
import ssl
import sys

HOST, PORT, CA, MECHANISM, FIRST, SECOND = sys.argv[1:]
context = ssl.create_default_context(cafile=CA)
message = b""
if MECHANISM == "EXTERNAL":
    context.load_cert_chain(FIRST, SECOND)
else:
    message = f"user={FIRST}\x01auth=Bearer {SECOND}\x01\x01".encode()
imap = imaplib.IMAP4_SSL(HOST, int(PORT), ssl_context=context, timeout=30)
assert f"AUTH={MECHANISM}" in imap.capabilities, imap.capabilities
imap.authenticate(MECHANISM, lambda challenge: message)
assert imap.select("INBOX")[0] == "OK"
print(imap.fetch("1", "(RFC822)")[1][0][1].decode())
imap.logout()
