"""Names of environment variables by which one process tells another how to work."""

SETTINGS_VARIABLE = "IMGCACHE_PROJECT_SETTINGS"
"""The settings of `scrapy imgcache -s …` as JSON, for the process that runs the command."""
