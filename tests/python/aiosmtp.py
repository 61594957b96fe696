"""aiosmtplib sends one message by STARTTLS and one in TLS. Arguments: STARTTLS port, TLS port, CA, user, password, recipient."""

import asyncio
import ssl
import sys
from email.message import EmailMessage

import aiosmtplib

STARTTLS, IMPLICIT, CA, USER, PASSWORD, RECIPIENT = sys.argv[1:]


async def main():
    context = ssl.create_default_context(cafile=CA)
    for subject, port, options in (
        ("aiosmtplib-starttls", STARTTLS, {"start_tls": True}),
        ("aiosmtplib-implicit", IMPLICIT, {"use_tls": True}),
    ):
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = USER, RECIPIENT, subject
        message.set_content("Bonjour, à bientôt\n.\n..\nfin\n", cte="8bit")
        errors, said = await aiosmtplib.send(
            message,
            hostname="localhost",
            port=int(port),
            tls_context=context,
            username=USER,
            password=PASSWORD,
            local_hostname="story.test",
            timeout=20,
            **options,
        )
        print(subject, len(errors), said)


asyncio.run(main())
