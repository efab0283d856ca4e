"""The Scrapy side: only this folder imports Scrapy."""
