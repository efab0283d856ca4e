"""Multipart forms, built byte by byte."""

BOUNDARY = "imgcache-boundary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def part(name, value, more="", head=""):
    """Return a part of a form; `more` is added to its disposition, `head` to its headers."""
    data = value if isinstance(value, bytes) else value.encode()
    disposition = f'Content-Disposition: form-data; name="{name}"{more}\r\n{head}\r\n'
    return f"--{BOUNDARY}\r\n{disposition}".encode() + data + b"\r\n"


def form(*parts):
    """Return a form with these parts."""
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def file(data):
    """Return the part of an uploaded file."""
    return part("file", data, '; filename="a.png"', "Content-Type: image/png\r\n")
