"""The upper bound: routes that answer constants, so that only the web framework is measured."""

from typing import Annotated

from fastapi import Body, FastAPI, Form, Response, UploadFile
from fastapi.responses import JSONResponse

from tests.benchmarks.origin import photograph

ENTRY = {
    "url": "http://h.example/0.jpg",
    "content_hash": "ab" * 32,
    "content_type": "image/jpeg",
    "file_size_bytes": 50_000,
    "original_filename": "0.jpg",
    "width": 800,
    "height": 600,
    "perceptual_hash": "ab" * 8,
    "client_name": "me",
    "lookup_time": "2025-01-02T03:04:05.678901+00:00",
    "created_at": "2025-01-02T03:04:05.678901+00:00",
    "bucket": "",
}
IMAGE = photograph(0)
app = FastAPI()


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/images/lookup")
async def lookup(url: str, bucket: str | None = None) -> Response:
    return JSONResponse(ENTRY)


@app.post("/images/lookup")
async def lookup_many(urls: Annotated[list[str], Body(embed=True)]) -> Response:
    return JSONResponse({"entries": dict.fromkeys(urls, ENTRY)})


@app.post("/images")
async def store(
    file: UploadFile, url: Annotated[str, Form()], client_name: Annotated[str, Form()]
) -> Response:
    await file.read()
    return JSONResponse(ENTRY, status_code=201)


@app.get("/images/{content_hash}")
async def get_bytes(content_hash: str, bucket: str = "") -> Response:
    return Response(IMAGE, media_type="image/jpeg")
