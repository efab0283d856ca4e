"""The spiders, from simple to rich."""
