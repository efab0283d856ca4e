"""A fast site with pages and tiny PNGs; every second PNG is missing."""

import asyncio
import sys
from io import BytesIO

from PIL import Image


def tiny(number: int) -> bytes:
    """Create a picture of 5 pixels; each number gives another one."""
    file = BytesIO()
    Image.frombytes("L", (5, 1), number.to_bytes(5, "big")).save(file, "PNG")
    return file.getvalue()


def answer(path: str) -> bytes:
    """Return the complete response for a path."""
    kind, _, name = path.strip("/").partition("/")
    number = int(name.removesuffix(".png"))
    found = kind == "page" or number % 2 == 0
    body = tiny(number) if kind == "image" and found else b"a page"
    content_type = "image/png" if kind == "image" else "text/html"
    status = "200 OK" if found else "404 Not Found"
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer requests until the client disconnects."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(answer(head.split(b" ", 2)[1].decode()))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    """Listen on loopback, print the port, and serve until the process is killed."""
    server = await asyncio.start_server(talk, "127.0.0.1", 0, backlog=512)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
