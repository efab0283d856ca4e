"""A Scrapy project for the commands: a configuration, and settings that tests write."""

from tests.support.commands import run_imgcache


class Project:
    """A Scrapy project."""

    def __init__(self, folder):
        self.folder = folder
        self.inside = folder / "shop" / "spiders"
        self.inside.mkdir(parents=True)
        (folder / "scrapy.cfg").write_text("[settings]\ndefault = shop.settings\n")
        (folder / "shop" / "__init__.py").touch()
        self.settings = ""

    @property
    def settings(self):
        """The text of the settings module."""
        return (self.folder / "shop" / "settings.py").read_text()

    @settings.setter
    def settings(self, text):
        (self.folder / "shop" / "settings.py").write_text(text)

    def run(self, *words, **options):
        """Run a command in a sub-folder of the project."""
        return run_imgcache(self.inside, *words, **options)
