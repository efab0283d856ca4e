"""A simple service to compare with: one ORM row per image, blocking routes.

SQLite in WAL mode, `imagehash.phash` and plain files, in the folder in which it is started.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import imagehash
from fastapi import Depends, FastAPI, Form, HTTPException, Response, UploadFile
from PIL import Image
from pydantic import BaseModel, ConfigDict
from sqlalchemy import create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

IMAGES = Path("images")
IMAGES.mkdir(exist_ok=True)


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "images"

    id: Mapped[int] = mapped_column(primary_key=True)
    url: Mapped[str] = mapped_column(index=True)
    content_hash: Mapped[str] = mapped_column(unique=True)
    content_type: Mapped[str]
    file_size_bytes: Mapped[int]
    original_filename: Mapped[str | None]
    width: Mapped[int | None]
    height: Mapped[int | None]
    perceptual_hash: Mapped[str | None] = mapped_column(index=True)
    client_name: Mapped[str]
    lookup_time: Mapped[datetime]
    created_at: Mapped[datetime]


class Entry(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    url: str
    content_hash: str
    content_type: str
    file_size_bytes: int
    original_filename: str | None
    width: int | None
    height: int | None
    perceptual_hash: str | None
    client_name: str
    lookup_time: datetime
    created_at: datetime


engine = create_engine("sqlite:///naive.sqlite3", connect_args={"timeout": 30})


@event.listens_for(engine, "connect")
def use_wal(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")


Base.metadata.create_all(engine)


def get_session() -> Iterator[Session]:
    with Session(engine) as session:
        yield session


Database = Annotated[Session, Depends(get_session)]
app = FastAPI()


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/images", status_code=201, response_model=Entry)
def store(
    *,
    file: UploadFile,
    url: Annotated[str, Form()],
    client_name: Annotated[str, Form()],
    session: Database,
    response: Response,
) -> Row:
    data = file.file.read()
    content_hash = blake2b(data, digest_size=32).hexdigest()
    known = session.scalar(select(Row).where(Row.content_hash == content_hash))
    if known is not None:
        response.status_code = 200
        return known
    picture = Image.open(BytesIO(data))
    (IMAGES / content_hash).write_bytes(data)
    row = Row(
        url=url,
        content_hash=content_hash,
        content_type=picture.get_format_mimetype(),
        file_size_bytes=len(data),
        original_filename=file.filename,
        width=picture.width,
        height=picture.height,
        perceptual_hash=str(imagehash.phash(picture)),
        client_name=client_name,
        lookup_time=datetime.now(UTC),
        created_at=datetime.now(UTC),
    )
    session.add(row)
    session.commit()
    session.refresh(row)
    return row


@app.get("/images/lookup", response_model=Entry)
def lookup(url: str, session: Database) -> Row:
    query = select(Row).where(Row.url == url).order_by(Row.lookup_time.desc()).limit(1)
    row = session.scalar(query)
    if row is None:
        raise HTTPException(404, "Image not found")
    return row


@app.get("/images/{content_hash}")
def get_bytes(content_hash: str, session: Database) -> Response:
    row = session.scalar(select(Row).where(Row.content_hash == content_hash))
    if row is None:
        raise HTTPException(404, "Image not found")
    return Response((IMAGES / content_hash).read_bytes(), media_type=row.content_type)
