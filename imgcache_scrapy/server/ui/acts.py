"""The acts of the page: delete, block and unblock, each of which asks once."""

from contextlib import suppress

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse

from imgcache_scrapy.core.checks import checked_text
from imgcache_scrapy.core.entry import is_content_hash
from imgcache_scrapy.core.errors import InvalidRequestError, NotFoundError
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.server.parameters import AuditPosition, BlockedPosition, SourcePosition
from imgcache_scrapy.server.tokens import local_path
from imgcache_scrapy.server.ui.access import ActForm, Fields, SignedIn
from imgcache_scrapy.server.ui.pages import HEADERS, Pages
from imgcache_scrapy.server.ui.results import ACTS, result, result_of
from imgcache_scrapy.server.ui.texts import address
from imgcache_scrapy.server.ui.tiles import tile_of

MAX_SELECTED = 1000
"""Maximum number of pictures of one act."""
_SHOWN = 12
_PAGE = 100

_EXPLANATIONS = {
    "delete": "The bytes and all URLs are deleted, in all buckets. A crawl that meets such a URL"
    " again downloads the picture again.",
    "block": "No crawl gets this from the cache, and the cache does not store it again. Nothing is"
    " deleted.",
    "unblock": "The cache may store this again.",
}


def add_acts(router: APIRouter, pages: Pages, images: AsyncImageCache) -> None:
    """Add the routes that ask for acts, do them, and list them."""

    @router.post("/ui/confirm")
    async def confirm(form: ActForm, visitor: SignedIn) -> Response:
        act, chosen = _act_of(form), hashes_of(form)
        shown = [
            entry
            for name in chosen[:_SHOWN]
            for entry in (await images.captures_page(name, None, 1, None)).entries
        ]
        what = "this picture" if len(chosen) == 1 else f"these {len(chosen)} pictures"
        return await pages.answer(
            "confirm",
            visitor,
            act=act,
            question=f"{act.capitalize()} {what}?",
            button=act.capitalize(),
            explanation=_EXPLANATIONS[act],
            tiles=[tile_of(entry) for entry in shown],
            not_shown=max(len(chosen) - _SHOWN, 0),
            hashes=chosen,
            back=_back_of(form),
        )

    @router.post("/ui/act")
    async def do(form: ActForm, visitor: SignedIn) -> Response:
        act, chosen, done = _act_of(form), hashes_of(form), 0
        reason = checked_text("a reason", form.get("reason", [""])[0])
        for name in chosen:
            with suppress(NotFoundError):
                # First, so that no crawl stores it again meanwhile, also if somebody deleted it.
                if act == "block" or (act == "delete" and "block" in form):
                    await images.block(name, reason, visitor.name)
                if act == "delete":
                    await _delete(images, name, visitor.name)
                if act == "unblock":
                    await images.unblock(name, visitor.name)
                done += 1
        path, _, query = _back_of(form).partition("?")
        if act == "delete" and path.startswith("/ui/images/"):
            path, query = "/", ""
        said = f"done={result(act, done, len(chosen) - done)}"
        there = f"{path}?{query}&{said}" if query else f"{path}?{said}"
        return RedirectResponse(there, 303, headers=HEADERS)

    @router.get("/ui/blocked")
    async def blocked(
        visitor: SignedIn,
        after: BlockedPosition = None,
        sources_after: SourcePosition = None,
        done: str | None = None,
    ) -> Response:
        page = await images.blocked_page(_PAGE, after)
        sources = await images.blocked_sources_page(_PAGE, sources_after)
        return await pages.answer(
            "blocked",
            visitor,
            blocked=page.entries,
            next_page=page.after and address("/ui/blocked", after=page.after),
            sources=sources.entries,
            more_sources=sources.after and address("/ui/blocked", sources_after=sources.after),
            result=result_of(done),
        )

    @router.get("/ui/acts")
    async def audit(visitor: SignedIn, after: AuditPosition = None) -> Response:
        page = await images.audit_page(_PAGE, after)
        return await pages.answer(
            "acts",
            visitor,
            acts=page.entries,
            next_page=page.after and address("/ui/acts", after=page.after),
        )


def hashes_of(form: Fields) -> list[str]:
    """Return the pictures that are selected in a form.

    Raises:
        InvalidRequestError: there are none, or too many, or one of them is no content hash.
    """
    found = list(dict.fromkeys(form.get("hash", [])))
    if not found:
        raise InvalidRequestError("no picture is selected: go back, and select one")
    if len(found) > MAX_SELECTED:
        raise InvalidRequestError(f"select at most {MAX_SELECTED} pictures at once")
    if not all(map(is_content_hash, found)):
        raise InvalidRequestError("a selected picture has no content hash")
    return found


def _back_of(form: Fields) -> str:
    return local_path(form.get("back", ["/"])[0])


def _act_of(form: Fields) -> str:
    act = form.get("act", [""])[0]
    if act not in ACTS:
        raise InvalidRequestError(f"there is no such act: the acts are {', '.join(ACTS)}")
    return act


async def _delete(images: AsyncImageCache, content_hash: str, actor: str) -> None:
    """Delete an image from all buckets.

    Raises:
        NotFoundError: the cache does not have it.
    """
    facts = await images.image_facts(content_hash)
    for bucket in facts.buckets if facts is not None and facts.buckets else [""]:
        await images.delete(content_hash, bucket, actor)
