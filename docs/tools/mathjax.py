"""Copy MathJax from its npm packages into build/mathjax, where the site takes it from.

python docs/tools/mathjax.py build/npm/node_modules build/mathjax
"""

import shutil
import sys
from pathlib import Path


def copy(modules, out):
    """What a browser loads of MathJax: the component, its extensions, its voice and its font."""
    package, font = modules / "mathjax", modules / "@mathjax" / "mathjax-newcm-font"
    for folder in (package, font):
        if not folder.is_dir():
            raise SystemExit(f"mathjax.py: {folder} is missing; run npm install first")
    target = out / "mathjax"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in ("tex-chtml.js", "LICENSE"):
        shutil.copy2(package / name, target)
    for name in ("a11y", "input", "sre", "ui"):
        shutil.copytree(package / name, target / name)
    shutil.copytree(font / "chtml", target / "mathjax-newcm-font" / "chtml")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: mathjax.py NODE_MODULES OUT")
    copy(Path(sys.argv[1]), Path(sys.argv[2]))
