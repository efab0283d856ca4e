"""Addon: enables the middleware and a pipeline with one line in ADDONS."""

from scrapy.pipelines.media import MediaPipeline
from scrapy.settings import BaseSettings
from scrapy.utils.misc import load_object

from imgcache_scrapy.plugin.middleware import ImgCacheMiddleware
from imgcache_scrapy.plugin.pipeline import ImgCachePipeline

MIDDLEWARE_ORDER = 585
PIPELINE_ORDER = 1


class Addon:
    """Adds the middleware, and adds the pipeline if the project has no other media pipeline."""

    def update_settings(self, settings: BaseSettings) -> None:
        """Add the components that the project does not set; a component set to None stays off."""
        settings.setdefault_in_component_priority_dict(
            "DOWNLOADER_MIDDLEWARES", ImgCacheMiddleware, MIDDLEWARE_ORDER
        )
        pipelines = settings.get_component_priority_dict_with_base("ITEM_PIPELINES")
        enabled = (load_object(name) for name, order in pipelines.items() if order is not None)
        if not any(isinstance(p, type) and issubclass(p, MediaPipeline) for p in enabled):
            settings.setdefault_in_component_priority_dict(
                "ITEM_PIPELINES", ImgCachePipeline, PIPELINE_ORDER
            )
