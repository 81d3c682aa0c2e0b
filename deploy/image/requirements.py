"""Print the requirements of pyproject.toml: the base ones, and those of the extras named.

An image installs its dependencies in a layer of their own, before our code is there to ask.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
requirements = [
    *project["dependencies"],
    *(line for extra in sys.argv[1:] for line in project["optional-dependencies"][extra]),
]
print("\n".join(requirements))
