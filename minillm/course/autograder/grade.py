"""Starts the grader from the packages beside this file.

grade.py --one ROOT              ROOT/submission -> ROOT/results/results.json
grade.py --folder FOLDER --out DIR ...   as `minillm course grade`
grade.py --warm                  loads everything once
"""

import sys
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path.insert(0, str(here / "packages"))
sys.dont_write_bytecode = True  # the folder may be read-only

if __name__ == "__main__":
    from minillm.course.autograding import main

    sys.exit(main(sys.argv[1:], here))
