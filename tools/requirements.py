"""Print the requirements of pyproject.toml, one a word: the runtime's, with `dev` those of the tests too."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
wanted = list(project["project"]["dependencies"])
if sys.argv[1:] == ["dev"]:
    wanted += project["dependency-groups"]["dev"]
print(" ".join(wanted))
