"""Answers of sites that a program may meet when it fetches one image."""

import gzip
import zlib

from tests.support.site import respond


def with_cookie(body, seen):
    """Return an answer that sets a cookie, and notes the one that a request has."""

    def answer(handler):
        seen.append(handler.headers.get("Cookie"))
        respond(handler, body, headers={"Set-Cookie": "visitor=1; Path=/"})

    return answer


def compressed(body, encoding):
    """Return an answer with a compressed body."""
    raw = zlib.compressobj(wbits=-15)
    forms = {
        "gzip": lambda: gzip.compress(body),
        "deflate": lambda: zlib.compress(body),
        "raw deflate": lambda: raw.compress(body) + raw.flush(),
        "cut gzip": lambda: gzip.compress(body)[:-20],
        "no gzip": lambda: body,
        "br": lambda: body,
    }
    sent = forms[encoding]()
    headers = {"Content-Encoding": encoding.split()[-1], "Content-Length": str(len(sent))}
    return lambda handler: respond(handler, sent, headers=headers)
