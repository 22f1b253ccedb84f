"""temp"""

import shutil
from pathlib import Path

from freemask import cli

p = cli.parser(__doc__)
for o in ("source", "kind", "sha256", "pipeline"):
    p.add_argument("--" + o)


def main(a):
    shutil.copytree(Path(a.source).parent, Path(a.pipeline).parent, dirs_exist_ok=True)


cli.run(main, p.parse_args())
