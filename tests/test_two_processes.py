"""docs/two_processes.py does what docs/machines.md says."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_two_processes_take_the_step_of_the_doubled_batch():
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "docs/two_processes.py"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    without, with_norm = (float(number) for number in re.findall(r"at most (\S+)", done.stdout))
    assert without < 1e-6 and with_norm > 1e-4
