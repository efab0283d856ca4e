"""`python -m imgcache_scrapy …` is `imgcache …`."""

from imgcache_scrapy.cli.main import main

if __name__ == "__main__":
    main()
