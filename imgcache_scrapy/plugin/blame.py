"""Decide whose fault a failure is: the site's, the cache's, or that of a hook."""

from traceback import walk_tb
from types import FunctionType

from scrapy.exceptions import IgnoreRequest
from scrapy.pipelines.images import ImageException
from scrapy.pipelines.media import MediaPipeline

from imgcache_scrapy.plugin.outcome import ImageFailed

_OURS = ("scrapy.", "imgcache_scrapy.")
# Scrapy logs failures with these reasons with a traceback. All others are told in one line.
_WITH_TRACEBACK = frozenset({"hook", "processing"})


def processing_failure(
    error: Exception, refusal: ImageFailed | None, pipeline: type[MediaPipeline]
) -> ImageFailed:
    """Return why a response that was fetched or found gave no result.

    Args:
        error: what `media_downloaded` raised.
        refusal: why the cache does not keep the response as an image; None if it does.
        pipeline: the class of the pipeline.

    Returns:
        Scrapy's "Image too small" is `too_small`. What the cache refused has the refusal's reason,
        unless a hook has a bug. Otherwise the reason is `hook` if the error comes from code of the
        project's class, else `processing`.
    """
    if isinstance(error, (ImageFailed, IgnoreRequest)):
        return ImageFailed.of(error)
    if isinstance(error, ImageException) and str(error).startswith("Image too small"):
        return ImageFailed("too_small", str(error), fate="rejected")
    cause = _first_cause(error)
    is_hooks = raised_in_hook(error, pipeline)
    if refusal is not None and not (is_hooks and is_bug(cause)):
        return refusal
    return ImageFailed("hook" if is_hooks else "processing", f"{type(cause).__name__}: {cause}")


def hook_failure(error: BaseException | None) -> ImageFailed:
    """Return the failure for an error that a hook raised."""
    return ImageFailed("hook", f"{type(error).__name__}: {error}")


def raised_in_hook(error: BaseException, pipeline: type[MediaPipeline]) -> bool:
    """Return whether an error comes from a class of the project, not from Scrapy or the plugin.

    Of all modules with methods of the pipeline, the one that was called last decides. A hook with
    a wrong signature or a wrong result is not in the traceback: then Scrapy's own code raises a
    bug's error, which it does not without such hooks.
    """
    methods = [method for each in pipeline.__mro__ for method in vars(each).values()]
    modules = {method.__module__ for method in methods if isinstance(method, FunctionType)}
    cause = _first_cause(error)
    names = [str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(cause.__traceback__)]
    called = [name for name in names if name in modules]
    if called and not called[-1].startswith(_OURS):
        return True
    has_hooks = any(not module.startswith(_OURS) for module in modules)
    return has_hooks and is_bug(cause) and bool(names) and names[-1].startswith(_OURS)


def is_bug(error: BaseException) -> bool:
    """Return whether an error looks like a bug: one of Python's own, but not of the system's."""
    return type(error).__module__ == "builtins" and not isinstance(error, OSError)


def is_told_in_one_line(failure: ImageFailed, error: BaseException) -> bool:
    """Return whether the line that `media_failed` logs says all about a failure.

    Args:
        failure: the failure.
        error: the exception that led to it.
    """
    if isinstance(error, ImageFailed) and error.__cause__ is None:  # Its message says all.
        return True
    return failure.reason not in _WITH_TRACEBACK and not is_bug(error)


def drop_tracebacks(error: BaseException | None) -> None:
    """Remove the tracebacks of an error and its causes, which would keep bodies in memory."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
