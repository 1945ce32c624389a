"""Do a notebook's claims hold on every seed? Runs its source as it stands, once for each seed, and counts.

    python -m tools.check_claims 05 --seeds 10 [--start 0] [--csv FILE]

Each seed is a run of its own, in a fresh kernel; a claim that does not hold does not stop it. Facts are looked at too,
and counted apart. The data are those of COURSE_DATA (default critters). A claim is accepted when it holds on 10 seeds,
the worst of them clear of the threshold and the mean three standard deviations from it: the measured figures are
printed so that this can be seen. Outputs marked NBVAL_CHECK_OUTPUT are compared with the stored ones: they must be the
same for every seed and version.

What ran where is kept in data/runs.csv, with the fingerprint of the code that decided its results, and docs/evidence.md
shows it (tools/readme.py): what ran on older code is shown as older. To run with the versions of another environment:
OTHER/bin/python -m ipykernel install --prefix DIR, then this with JUPYTER_PATH=DIR/share/jupyter.
"""

import argparse
import csv
import json
import os
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import nbformat
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from tools import fingerprint
from tools.build import NOTEBOOKS, code_cells, execute, load, seconds, sources
from tools.measure_tables import read
from tools.readme import RUNS
from tools.spread import add_arguments, spread, workers

WHERE = """# asked in the kernel, which need not be this Python
import json, os, platform, torch
asked = os.environ.get("COURSE_DEVICE")
device = asked.upper() if asked in ("mps", "xpu") else "CPU"
if torch.cuda.is_initialized():  # a notebook that computes on the CPU has opened none
    device = torch.cuda.get_device_name()
print(json.dumps({
    "python": ".".join(platform.python_version_tuple()[:2]),
    "torch": torch.__version__.split("+")[0],
    "device": device,
}))"""
SAME = ("notebook", "seed", "data", "device", "torch", "python")  # what tells one run from another


def run(source: Path, seed: int, folder: Path = NOTEBOOKS) -> dict:
    """Run a source with one seed; returns what came of it and where it ran.

    "claims", facts among them, in order: [{"kind", "text", "held", "figures", "same"}, ...], a line each in the file
    named by COURSE_CLAIMS (utils.lessons.claim writes it); "changed": the marked outputs that are not as stored;
    "code", "data", "python", "torch", "device" and "seconds". Raises CellExecutionError where a cell fails.
    """
    names = ("COURSE_DATA", "COURSE_DATA_DIR", "COURSE_DEVICE")
    inherited = {name: os.environ[name] for name in names if name in os.environ}
    notebook = load(source)
    code = fingerprint.of_notebook(notebook)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "claims.jsonl"
        settings = {"COURSE_DATA": "critters"} | inherited
        settings |= {"COURSE_SEED": str(seed), "COURSE_STRICT": "0", "COURSE_CLAIMS": str(file)}
        notebook.cells.append(new_code_cell(WHERE))
        execute(notebook, f"{source.stem}, seed {seed}", settings, folder)
        claims = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    where = json.loads(notebook.cells.pop().outputs[0].text)
    took = round(sum(seconds(cell) for cell in code_cells(notebook)))
    stored = folder / f"{source.stem}.ipynb"
    changed = differences(notebook, nbformat.read(stored, as_version=4)) if stored.exists() else []
    return where | {
        "code": code,
        "data": settings["COURSE_DATA"],
        "seconds": took,
        "claims": claims,
        "changed": changed,
    }


def attempt(source: Path, seed: int) -> dict | str:
    """What `run` returns, or what was said by the cell that failed, or of the kernel that died."""
    try:
        return run(source, seed)
    except (CellExecutionError, DeadKernelError) as error:
        return str(error)


def differences(notebook: NotebookNode, stored: NotebookNode) -> list[str]:
    """The marked cells, by their last line, whose output is not the stored one."""

    def marked(of: NotebookNode) -> dict[str, list[str]]:
        cells = [cell for cell in code_cells(of) if "NBVAL_CHECK_OUTPUT" in cell.source]
        return {c.id: [o.get("text") or o.get("data", {}).get("text/plain") for o in c.outputs] for c in cells}

    before, now = marked(stored), marked(notebook)
    return [c.source.splitlines()[-1] for c in code_cells(notebook) if c.id in now and now[c.id] != before.get(c.id)]


def rows(runs: dict[int, list[dict]]) -> list[dict]:
    """One row a claim and seed. A claim that is made several times in a run is numbered, so that none hides another."""
    table = []
    for seed, claims in runs.items():
        times: Counter[str] = Counter()
        for claim in claims:
            times[claim["text"]] += 1
            nth = times[claim["text"]]
            name = claim["text"] if nth == 1 else f"{claim['text']} ({nth})"
            row = {
                "claim": name,
                "seed": seed,
                "held": claim["held"],
                "figures": claim["figures"],
                "kind": claim["kind"],
            }
            table.append(row)
    return table


def report(runs: dict[int, list[dict]]) -> str:
    """Claim by seed as text: how many held, then each seed's verdict and measured figures. A fact that always held is
    one line."""
    table, lines = rows(runs), []
    for text, kind in dict.fromkeys((row["claim"], row["kind"]) for row in table):
        mine = {row["seed"]: row for row in table if (row["claim"], row["kind"]) == (text, kind)}
        held = sum(row["held"] for row in mine.values())
        lines.append(f"{held} of {len(runs)} held: {text}" + (" (a fact)" if kind == "fact" else ""))
        if kind == "fact" and held == len(runs):
            continue
        for seed in runs:
            verdict = "not made" if seed not in mine else "held" if mine[seed]["held"] else "FAILED"
            lines.append(f"    seed {seed:>3}  {verdict:<8}  {mine[seed]['figures'] if seed in mine else ''}".rstrip())
    return "\n".join(lines)


def record(name: str, seed: int, done: dict) -> None:
    """Keep a run in data/runs.csv, in place of an earlier one of the same notebook, seed and surroundings."""
    fell = sum(not claim["held"] for claim in done["claims"]) + len(done["changed"])
    claims = [claim["kind"] for claim in done["claims"]].count("claim")  # without the facts, which fall also
    row = {"notebook": name, "seed": str(seed), "claims": str(claims), "fell": str(fell)}
    row |= {key: str(done[key]) for key in ("data", "device", "torch", "python", "code", "seconds")}
    row["what"] = " | ".join(claim["text"] for claim in done["claims"] if not claim["held"])  # for the page of evidence
    before = [old for old in read(RUNS) if any(old[key] != row[key] for key in SAME)]
    with open(RUNS, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerows(
            sorted([*before, row], key=lambda run: (run["notebook"], run["data"], run["torch"], int(run["seed"])))
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", help="the beginning of its name, such as 05")
    parser.add_argument("--seeds", type=int, default=10, help="how many (default 10)")
    parser.add_argument("--start", type=int, default=0, help="the first seed (default 0)")
    add_arguments(parser)
    parser.add_argument("--csv", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    source, *others = sources([arguments.notebook])
    if others:
        names = ", ".join(path.stem for path in (source, *others))
        raise SystemExit(f"{arguments.notebook} names several notebooks: {names}. Choose one.")

    runs: dict[int, list[dict]] = {}
    broken, wanted = [], range(arguments.start, arguments.start + arguments.seeds)
    if (jobs := workers(arguments)) > 1:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # each run on a core of its own
    for seed, done in spread(partial(attempt, source), wanted, jobs):
        if isinstance(done, str):  # must not cost the other seeds; the command fails at its end
            broken.append(f"seed {seed} broke off with an error: {done}")
            runs[seed] = []
            continue
        runs[seed] = done["claims"]
        broken += [f"seed {seed} gave another output than the stored one: {line}" for line in done["changed"]]
        record(source.stem, seed, done)
    print("\n" + report(runs))
    print("\n".join(broken))
    if arguments.csv:
        with open(arguments.csv, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["claim", "seed", "held", "figures", "kind"])
            writer.writeheader()
            writer.writerows(rows(runs))
    return 1 if broken or not all(row["held"] for row in rows(runs)) or not rows(runs) else 0


if __name__ == "__main__":
    from tools import check_claims as by_name  # other processes find its functions there, and not in "__main__"

    raise SystemExit(by_name.main())
