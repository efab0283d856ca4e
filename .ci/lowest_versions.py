"""Print constraints for pip: the lowest version of each library in pyproject.toml.

    pip install -e ".[dev]" -c <(python .ci/lowest_versions.py)

The tools of the extra `dev` are left out, because users do not install them.
"""

import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def main() -> None:
    """Print a line for each library of the base install and of the extras for users."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    further = [*extras["server"], *extras["postgres"], *extras["parquet"]]
    for requirement in [*project["dependencies"], *further]:
        name, _, version = requirement.partition(";")[0].strip().partition(">=")
        print(f"{name.partition('[')[0]}=={version}")


main()
