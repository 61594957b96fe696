"""Python's SMTP client by STARTTLS sends one message. Arguments: host, port, CA, user, password, recipient, subject."""

import smtplib
import ssl
import sys

host, port, ca, user, password, recipient, subject = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
with smtplib.SMTP("127.0.0.1", int(port), local_hostname="story.test", timeout=20) as smtp:
    smtp.ehlo()
    assert smtp.has_extn("starttls") and not smtp.has_extn("auth"), smtp.esmtp_features
    # The name that is verified is the gateway's; the address is loopback.
    smtp._host = host
    smtp.starttls(context=context)
    smtp.ehlo()
    assert smtp.has_extn("auth") and not smtp.has_extn("starttls"), smtp.esmtp_features
    smtp.login(user, password)
    refused = smtp.sendmail(user, [recipient], f"Subject: {subject}\n\nBonjour\n.\n..\nfin\n")
    print("refused", len(refused))
