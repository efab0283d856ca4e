"""Tell by the first bytes what no child can decode, so that none is started for it."""

_STARTS = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG",
    b"GIF8",
    b"RIFF",  # WebP
    b"BM",
    b"II",  # TIFF
    b"MM",
    b"\0\0\1\0",  # ICO
    b"\0\0\2\0",  # CUR
    b"\0\0\0\x0cjP",  # JPEG 2000
    b"\xff\x4f\xff\x51",
)


def may_be_decoded(data: bytes) -> bool:
    """Return False if the bytes are certainly not in a format that a child decodes."""
    return data.startswith(_STARTS) or data[4:8] == b"ftyp"  # AVIF
