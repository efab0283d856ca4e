"""The command line: put the commands together, add `--version`, and report errors."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from imgcache_scrapy.cli.blocked import block, blocked, suggest_blocked, unblock
from imgcache_scrapy.cli.copying import copy
from imgcache_scrapy.cli.exporting import export
from imgcache_scrapy.cli.failures import failures
from imgcache_scrapy.cli.fetch import fetch
from imgcache_scrapy.cli.history import history
from imgcache_scrapy.cli.importing import import_
from imgcache_scrapy.cli.key import key
from imgcache_scrapy.cli.listing import ls
from imgcache_scrapy.cli.look import get, stats
from imgcache_scrapy.cli.options import with_cache_option, with_token_option
from imgcache_scrapy.cli.prune import prune
from imgcache_scrapy.cli.restore import backup, rebuild
from imgcache_scrapy.cli.serve import serve
from imgcache_scrapy.cli.spool import list_spool, replay_spool
from imgcache_scrapy.cli.takedown import audit, rm
from imgcache_scrapy.cli.ui import ui
from imgcache_scrapy.cli.upkeep import gc, upgrade, verify
from imgcache_scrapy.cli.uses import uses
from imgcache_scrapy.core.errors import ImgCacheError, UnauthorizedError
from imgcache_scrapy.core.text import reason_of

app = typer.Typer(no_args_is_help=True, add_completion=False)
spool = typer.Typer(help="List or store the images that wait in the spool.", no_args_is_help=True)
for command in (ls, rm, stats, get, history, uses, failures, blocked, suggest_blocked, audit):
    app.command()(with_token_option(with_cache_option(command)))
for command in (fetch, block, unblock, export):
    app.command()(with_token_option(command))
for command in (serve, ui, verify, gc, prune, upgrade, backup, rebuild):
    app.command()(with_cache_option(command))
app.command("import")(with_token_option(import_))
app.command()(copy)
app.command()(key)
app.add_typer(spool, name="spool")
spool.command("list")(with_cache_option(list_spool))
spool.command("replay")(with_token_option(with_cache_option(replay_spool)))


def main() -> None:
    """Run a command; print an error as one sentence."""
    try:
        app(prog_name="imgcache")
    except OSError as error:
        sys.exit(f"imgcache: {reason_of(error)}")
    except UnauthorizedError as error:
        hint = "give its token by --token (of `copy`: --src-token) or in IMGCACHE_TOKEN"
        sys.exit(f"imgcache: the service refuses the token: {hint} ({error})")
    except ImgCacheError as error:
        sys.exit(f"imgcache: {error}")


def _print_version(is_set: bool) -> None:
    if is_set:
        typer.echo(f"imgcache-scrapy {version('imgcache-scrapy')}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """A cache of images for Scrapy: each image is downloaded once."""
