"""A mail server of a few words: the server speaks first, as SMTP wants it."""

import asyncio
import sys


async def serve(reader, writer):
    writer.write(b"220 mail.test ready\r\n")
    await writer.drain()
    in_text = False
    while line := await reader.readline():
        word = line.strip().upper()
        if in_text:
            if line == b".\r\n":
                in_text = False
                writer.write(b"250 taken\r\n")
        elif word.startswith(b"DATA"):
            in_text = True
            writer.write(b"354 go on\r\n")
        elif word.startswith(b"QUIT"):
            writer.write(b"221 bye\r\n")
            break
        else:
            writer.write(b"250 fine\r\n")
        await writer.drain()
    writer.close()


async def main():
    server = await asyncio.start_server(serve, "0.0.0.0", int(sys.argv[1]))
    await server.serve_forever()


asyncio.run(main())
