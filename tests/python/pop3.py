"""Python's POP3 client by STLS: lists, reads the first message. Arguments: host, port, CA, user, password."""

import poplib
import ssl
import sys

host, port, ca, user, password = sys.argv[1:]
poplib._MAXLINE = 20480
context = ssl.create_default_context(cafile=ca)
pop = poplib.POP3("127.0.0.1", int(port), timeout=20)
before = pop.capa()
assert "STLS" in before and "SASL" not in before and "USER" not in before, before
# The name that is verified is the gateway's; the address is loopback.
context.check_hostname = True
pop.host = host
pop.stls(context=context)
after = pop.capa()
assert "STLS" not in after and "UIDL" in after and "USER" in after, after
pop.user(user)
pop.pass_(password)
print(len(pop.uidl()[1]))
print(b"\n".join(pop.retr(1)[1]).decode())
pop.quit()
