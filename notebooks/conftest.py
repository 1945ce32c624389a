"""However nbval is started, the notebooks run on the embedded data, and a claim that does not hold is an error."""

import os
from pathlib import Path

for name, value in {"COURSE_DATA": "critters", "COURSE_SEED": "0", "COURSE_STRICT": "1"}.items():
    os.environ.setdefault(name, value)

# Copies beside them have no source, and are left alone.
HERE = Path(__file__).parent
collect_ignore = [path.name for path in HERE.glob("*.ipynb") if not (HERE / f"source/{path.stem}.py").exists()]
