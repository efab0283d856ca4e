"""The page `/docs`: the OpenAPI document as plain HTML, without scripts and other hosts."""

import json
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html import escape
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
h2 { border-top: 1px solid #ccc; font-size: 1.1rem; margin-top: 2rem; padding-top: 1rem }
code, h2 { font-family: ui-monospace, monospace }
table { border-collapse: collapse }
td, th { border: 1px solid #ccc; padding: .2rem .6rem; text-align: left; vertical-align: top }
"""
_STYLE_DIGEST = b64encode(sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; frame-ancestors 'none';"
        " base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
}
"""The headers of the page: the browser loads nothing, runs nothing, and shows it in no frame."""


def docs_page(document: dict[str, Any]) -> str:
    """Return an HTML page that describes an API.

    Args:
        document: its OpenAPI document.
    """
    info = document["info"]
    operations = "\n".join(
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f"<title>{escape(info['title'])}: API</title>\n<style>{_STYLE}</style>\n"
        f"<h1>{escape(info['title'])}</h1>\n<p>{escape(info.get('summary', ''))}</p>\n"
        '<p>This page as a document for programs: <a href="/openapi.json">/openapi.json</a></p>\n'
        f"{operations}\n</html>\n"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    inputs = [*map(_parameter, operation.get("parameters", ())), *_body_fields(operation)]
    answers = [
        (status, answer["description"], ", ".join(answer.get("content", ())))
        for status, answer in operation["responses"].items()
    ]
    return "\n".join(
        [
            f"<h2>{escape(method.upper())} {escape(path)}</h2>",
            f"<p>{escape(operation.get('description') or operation.get('summary', ''))}</p>",
            _table(("parameter", "where", "rules"), inputs),
            _table(("status", "meaning", "content"), answers),
        ]
    )


def _parameter(parameter: dict[str, Any]) -> tuple[str, str, str]:
    required = ", required" if parameter.get("required") else ""
    return parameter["name"], parameter["in"] + required, _rules(parameter["schema"])


def _body_fields(operation: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for content_type, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = content["schema"]
        if "properties" not in schema:
            yield "body", content_type, _rules(schema)
        for name, field in schema.get("properties", {}).items():
            required = ", required" if name in schema.get("required", ()) else ""
            yield name, f"field of {content_type}{required}", _rules(field)


def _rules(schema: dict[str, Any]) -> str:
    shown = {key: value for key, value in schema.items() if key not in {"title", "description"}}
    return json.dumps(shown, ensure_ascii=False)


def _table(heads: tuple[str, ...], rows: list[tuple[str, str, str]]) -> str:
    if not rows:
        return ""
    lines = [_row("th", heads), *(_row("td", row) for row in rows)]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _row(tag: str, cells: tuple[str, ...]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
