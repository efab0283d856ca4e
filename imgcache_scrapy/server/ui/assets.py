"""The stylesheet and the script of the page."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

_FOLDER = Path(__file__).with_name("static")
_TYPES = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


class Asset(NamedTuple):
    """A file that pages load.

    Attributes:
        data: its bytes.
        media_type: its content type.
        address: its path, with a digest of its bytes, so that a browser may keep it forever.
    """

    data: bytes
    media_type: str
    address: str


def read_assets() -> dict[str, Asset]:
    """Read the files that pages load, by their names."""
    return {name: _read(name) for name in _TYPES}


def add_assets(router: APIRouter, assets: dict[str, Asset]) -> None:
    """Add the route of the files that pages load; it needs no token, as they have no secret."""

    @router.get("/ui/static/{name}")
    async def asset(name: str, v: str = "") -> Response:
        if name not in assets:
            raise HTTPException(404, "there is no such file")
        # Without its version, an address has other bytes after an upgrade.
        is_this_version = assets[name].address.endswith(f"?v={v}")
        kept = "public, max-age=31536000, immutable" if is_this_version else "no-cache"
        headers = {
            "Cache-Control": kept,
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        return Response(assets[name].data, headers=headers, media_type=assets[name].media_type)


def _read(name: str) -> Asset:
    data = (_FOLDER / name).read_bytes()
    digest = hashlib.blake2b(data, digest_size=6).hexdigest()
    return Asset(data, _TYPES[name], f"/ui/static/{name}?v={digest}")
