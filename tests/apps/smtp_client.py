"""Sends a message with Python's smtplib to HOST PORT; the server speaks first."""

import smtplib
import sys

with smtplib.SMTP(sys.argv[1], int(sys.argv[2]), local_hostname="client.test", timeout=10) as client:
    refused = client.sendmail("a@client.test", ["b@mail.test"], "Subject: hello\r\n\r\n" + "line\r\n" * 10_000)
    assert refused == {}, refused
print("sent")
