"""The site that the benchmarks crawl: pages with five photograph-like JPEGs, in its own process."""

import asyncio
import random
import sys
from io import BytesIO

from PIL import Image

IMAGES_PER_PAGE = 5
_POOL = 40


def photograph(seed: int, size: tuple[int, int] = (800, 600), quality: int = 77) -> bytes:
    """Create a JPEG with the spectrum of a photograph: noise at every scale, the largest strongest.

    Args:
        seed: each seed gives another picture.
        size: width and height in pixels; 800x600 gives about 50 KB.
        quality: quality of the JPEG.

    Returns:
        The bytes of the file.
    """
    source = random.Random(seed)
    picture = Image.new("RGB", size, (128, 128, 128))
    for scale, strength in ((4, 0.6), (12, 0.45), (40, 0.3), (150, 0.18), (400, 0.06)):
        noise = Image.frombytes("RGB", (scale, scale), source.randbytes(scale * scale * 3))
        picture = Image.blend(picture, noise.resize(size, Image.Resampling.BICUBIC), strength)
    file = BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def numbered(jpeg: bytes, number: int) -> bytes:
    """Return other bytes of the same picture: a comment segment of the JPEG holds the number."""
    comment = number.to_bytes(8, "big")
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


class Origin:
    """A server that answers `/page/N` and `/image/N.jpg`, over persistent connections."""

    def __init__(self) -> None:
        self._pool = [photograph(seed) for seed in range(_POOL)]

    async def serve(self, port: int) -> None:
        """Listen on loopback, print the port, and serve until the process is killed."""
        server = await asyncio.start_server(self._talk, "127.0.0.1", port, backlog=512)
        sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()
        await server.serve_forever()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head.split(b" ", 2)[1].decode()))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, path: str) -> bytes:
        kind, _, name = path.strip("/").partition("/")
        number = int(name.removesuffix(".jpg"))
        if kind == "image":
            body = numbered(self._pool[number % _POOL], number)
            content_type = "image/jpeg"
        else:
            first = number * IMAGES_PER_PAGE
            numbers = range(first, first + IMAGES_PER_PAGE)
            body = "".join(f'<img src="/image/{n}.jpg">' for n in numbers).encode()
            content_type = "text/html"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}"
        return head.encode() + b"\r\n\r\n" + body


if __name__ == "__main__":
    asyncio.run(Origin().serve(0))
