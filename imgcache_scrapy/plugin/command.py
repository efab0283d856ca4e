"""`scrapy imgcache …`: the command `imgcache …` with the settings of the Scrapy project.

Scrapy imports this file at each start, so it imports nothing that Scrapy has not loaded by then.
"""

import json
import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from typing import NoReturn

from scrapy.commands import ScrapyCommand
from scrapy.settings import SETTINGS_PRIORITIES
from scrapy.utils.conf import closest_scrapy_cfg
from scrapy.utils.project import inside_project

from imgcache_scrapy.core.environment import SETTINGS_VARIABLE

# A crawl takes these from the environment if no setting names them. The commands take them from
# the environment first, so there they must not be.
_VARIABLES = ("IMGCACHE_URL", "IMGCACHE_TOKEN")
_SPOOL = "IMGCACHE_SPOOL_DIR"


class Command(ScrapyCommand):
    """Runs `imgcache …` in a process that has the settings of the project and of `-s`."""

    requires_crawler_process = False

    def syntax(self) -> str:
        """Return what follows `scrapy imgcache`."""
        return "[-s NAME=VALUE] <command> [options]"

    def short_desc(self) -> str:
        """Return one line for Scrapy's list of commands."""
        return "Work with the image cache: list, fetch, count, verify, serve and more"

    def add_options(self, parser: ArgumentParser) -> None:
        """Add Scrapy's options; `--help` is that of `imgcache`."""
        super().add_options(parser)
        parser.allow_abbrev = False
        parser.add_argument("-h", "--help", action="store_true", dest="imgcache_help")

    def run(self, args: list[str], opts: Namespace) -> None:
        """Run the command, and end with its exit code.

        Args:
            args: the name of the command of `imgcache`, and its arguments.
            opts: Scrapy's own options.
        """
        environment = self._environment()
        if SETTINGS_VARIABLE not in environment:
            print(  # noqa: T201 - Scrapy's commands print
                "There is no Scrapy project here, so imgcache runs without the settings of one.",
                file=sys.stderr,
            )
        _become([*args, *(["--help"] if opts.imgcache_help else [])], environment)

    def _environment(self) -> dict[str, str]:
        """Return the environment of the process, with the settings of the crawls."""
        environment = dict(os.environ)
        given = self._given_settings()
        if not inside_project() and not given:
            return environment
        settings = self.settings
        assert settings is not None  # noqa: S101 - Scrapy has set it
        for name in _VARIABLES:
            inherited = environment.pop(name, None)
            if settings.get(name) is None and inherited:
                given[name] = inherited
        environment.pop(_SPOOL, None)
        environment[SETTINGS_VARIABLE] = json.dumps(given)
        # The project's folder may be above the current one.
        config = closest_scrapy_cfg()
        if config:
            paths = [environment.get("PYTHONPATH"), os.path.dirname(config)]  # noqa: PTH120
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        return environment

    def _given_settings(self) -> dict[str, str]:
        """Return the settings of the option `-s`."""
        settings = self.settings
        assert settings is not None  # noqa: S101 - Scrapy has set it
        on_command_line = SETTINGS_PRIORITIES["cmdline"]
        names = [name for name in settings if settings.getpriority(name) == on_command_line]
        return {name: settings[name] for name in names if isinstance(settings[name], str)}


def _become(arguments: list[str], environment: dict[str, str]) -> NoReturn:
    """Replace this process by `imgcache …`, which then gets its signals and gives its exit code."""
    # Without `-P`, Python would import modules from the current folder first.
    command = [sys.executable, "-P", "-m", "imgcache_scrapy", *arguments]
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":
        os.execve(command[0], command, environment)  # noqa: S606 - it is this interpreter
    # Elsewhere a process cannot be replaced; a console sends Ctrl-C to both.
    sys.exit(subprocess.call(command, env=environment))  # noqa: S603 - it is this interpreter
