"""Before a lecture: is this machine ready? Looks at all that can go wrong in front of a class, and says go or no-go.

    python -m tools.preflight          every notebook
    python -m tools.preflight 05       those whose name begins so

Photos and weights are fetched now where the notebooks would fetch them: set COURSE_DATA as in the lecture. Each
notebook is run once and timed.
"""

import argparse
import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import nbformat
import psutil
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from packaging.requirements import Requirement
from torchvision.models import MobileNet_V2_Weights

from tools.build import ROOT, built, code_cells, execute, seconds
from utils import datasets, device
from utils.models import imagenet_state

MINUTES = {"drawings": 4, "photos": 8}  # a notebook
CELL_SECONDS = 60
FREE_GB = {"disk": 3, "memory": 4}


class Finding(NamedTuple):
    """What was looked at, whether it will do, what was found, and what to do where it will not."""

    what: str
    good: bool
    found: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{'go   ' if self.good else 'NO GO'}  {self.what}: {self.found}" + (
            "" if self.good else f"\n       {self.advice}"
        )


def environment() -> Finding:
    """Python, and every package of requirements.txt in a version that will do."""
    wrong = [] if sys.version_info >= (3, 11) else [f"Python {sys.version.split()[0]}, 3.11 or newer is needed"]
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            needed = Requirement(line)
            try:
                there = importlib.metadata.version(needed.name)
            except importlib.metadata.PackageNotFoundError:
                wrong.append(f"{needed.name} is missing")
            else:
                if not needed.specifier.contains(there, prereleases=True):
                    wrong.append(f"{needed.name} {there}, {needed.specifier} is needed")
    advice = "pip install -r requirements.txt"
    return Finding("environment", not wrong, "; ".join(wrong) or "Python and all packages are there", advice)


def processor() -> Finding:
    """The device that the notebooks will take. A CPU will do: whether it is fast enough, the rehearsal tells."""
    chosen, why = device.pick()
    return Finding("device", True, f"{str(chosen).upper()} ({why})")


def room() -> Iterator[Finding]:
    """Free disk and memory."""
    free = {"disk": shutil.disk_usage(ROOT).free / 1e9, "memory": psutil.virtual_memory().available / 1e9}
    advice = {
        "disk": "Remove what is not needed, or set COURSE_DATA_DIR to a larger disk.",
        "memory": "Close other programs and kernels.",
    }
    for what, least in FREE_GB.items():
        yield Finding(what, free[what] >= least, f"{free[what]:.1f} GB free, {least} GB are needed", advice[what])


def data(names: list[str]) -> Iterator[Finding]:
    """The photos of these data sets, and the weights that go with photos: fetched where a notebook would fetch them."""
    advice = "Mend that before the lecture, or take COURSE_DATA=critters for it: drawings need nothing."
    sources = set()
    for name in names:
        try:
            train = getattr(datasets, name)(num_train=2, num_val=2, num_test=2).train
        except (OSError, RuntimeError, ValueError) as error:
            yield Finding(name, False, str(error), advice)
        else:
            sources.add(train.source)
            yield Finding(name, True, f"{train.noun}s")
    if "photos" in sources:
        try:
            imagenet_state(MobileNet_V2_Weights.IMAGENET1K_V1)
        except RuntimeError as error:
            yield Finding("weights", False, str(error), advice)
        else:
            yield Finding("weights", True, "MobileNetV2 is on this machine")


def rehearsal(path: Path) -> Finding:
    """One run of a notebook, with the COURSE_* settings of the lecture, against the time that it may take."""
    notebook = nbformat.read(path, as_version=4)
    settings = {name: value for name, value in os.environ.items() if name.startswith("COURSE_")}
    try:
        execute(notebook, path.stem, settings | {"COURSE_STRICT": "1"})
    except CellExecutionError as error:
        return Finding(
            path.stem, False, f"a cell failed: {error.ename}: {error.evalue}", "Open it, and look at that cell."
        )
    except CellTimeoutError:
        advice = "Take COURSE_DATA=critters or a faster machine, or show the stored outputs."
        return Finding(path.stem, False, "a cell did not end within 10 minutes", advice)
    except DeadKernelError:
        return Finding(
            path.stem, False, "the kernel died, mostly for want of memory", "Close other programs and try again."
        )
    photos = any("data: photos" in output.get("text", "") for output in code_cells(notebook)[0].outputs)
    times, most = [seconds(cell) for cell in notebook.cells], 60 * MINUTES["photos" if photos else "drawings"]
    return Finding(
        path.stem,
        sum(times) <= most and max(times) <= CELL_SECONDS,
        f"{sum(times):.0f} s of {most}, the slowest cell {max(times):.0f} s of {CELL_SECONDS}; every claim holds",
        "Close other programs and try again; else take COURSE_DATA=critters, a faster machine, or show stored outputs.",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names, such as 05; default: all")
    notebooks = built(parser.parse_args().names)
    texts = "".join(path.read_text(encoding="utf-8") for path in notebooks)
    used = [name for name in ("dogs_vs_cats", "pets", "lesions") if f"{name}(" in texts]
    findings = []
    for finding in chain([environment(), processor()], room(), data(used), map(rehearsal, notebooks)):
        print(finding, flush=True)
        findings.append(finding)
    bad = [finding.what for finding in findings if not finding.good]
    if bad:
        raise SystemExit(f"NO GO: {', '.join(bad)}")
    print("GO")


if __name__ == "__main__":
    main()
