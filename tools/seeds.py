"""Do a notebook's claims hold on every seed? Runs its source as it stands, once for each seed, and counts.

    python -m tools.seeds 05 --seeds 10 [--start 0] [--csv FILE]

Each seed is a run of its own, in a fresh kernel; a claim that does not hold does not stop it. The data are those
of COURSE_DATA (default critters). A claim is accepted when it holds on 10 seeds, the worst of them clear of the
threshold and the mean three standard deviations from it: the measured figures are printed so that this can be seen.
"""

import argparse
import csv
import json
import os
import tempfile
from collections import Counter
from pathlib import Path

from nbclient.exceptions import CellExecutionError

from tools.build import NOTEBOOKS, execute, load, sources


def claims_of_run(source: Path, seed: int, folder: Path = NOTEBOOKS) -> list[dict]:
    """Run a source with one seed; returns its claims in order: [{"text", "held", "figures"}, ...].

    utils.lessons.claim writes them, a line each, to the file named by COURSE_CLAIMS. Raises CellExecutionError where a
    cell fails.
    """
    inherited = {key: os.environ[key] for key in ("COURSE_DATA", "COURSE_DATA_DIR") if key in os.environ}
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "claims.jsonl"
        settings = {"COURSE_DATA": "critters"} | inherited
        settings |= {"COURSE_SEED": str(seed), "COURSE_STRICT": "0", "COURSE_CLAIMS": str(file)}
        execute(load(source), f"{source.stem}, seed {seed}", settings, folder)
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def rows(runs: dict[int, list[dict]]) -> list[dict]:
    """One row a claim and seed. A claim that is made several times in a run is numbered, so that none hides another."""
    table = []
    for seed, claims in runs.items():
        times: Counter[str] = Counter()
        for claim in claims:
            times[claim["text"]] += 1
            nth = times[claim["text"]]
            name = claim["text"] if nth == 1 else f"{claim['text']} ({nth})"
            table.append({"claim": name, "seed": seed, "held": claim["held"], "figures": claim["figures"]})
    return table


def report(runs: dict[int, list[dict]]) -> str:
    """Claim by seed as text: how many held, then each seed's verdict and measured figures."""
    table, lines = rows(runs), []
    for text in dict.fromkeys(row["claim"] for row in table):
        mine = {row["seed"]: row for row in table if row["claim"] == text}
        lines.append(f"{sum(row['held'] for row in mine.values())} of {len(runs)} held: {text}")
        for seed in runs:
            verdict = "not made" if seed not in mine else "held" if mine[seed]["held"] else "FAILED"
            lines.append(f"    seed {seed:>3}  {verdict:<8}  {mine[seed]['figures'] if seed in mine else ''}".rstrip())
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", help="the beginning of its name, such as 05")
    parser.add_argument("--seeds", type=int, default=10, help="how many (default 10)")
    parser.add_argument("--start", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--csv", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    source, *others = sources([arguments.notebook])
    if others:
        names = ", ".join(path.stem for path in (source, *others))
        raise SystemExit(f"{arguments.notebook} names several notebooks: {names}. Choose one.")

    runs: dict[int, list[dict]] = {}
    broken = []
    for seed in range(arguments.start, arguments.start + arguments.seeds):
        try:
            runs[seed] = claims_of_run(source, seed)
        except CellExecutionError as error:  # must not cost the other seeds; the command fails at its end
            broken.append(f"seed {seed} broke off with an error: {error}")
            runs[seed] = []
    print("\n" + report(runs))
    print("\n".join(broken))
    if arguments.csv:
        with open(arguments.csv, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["claim", "seed", "held", "figures"])
            writer.writeheader()
            writer.writerows(rows(runs))
    return 1 if broken or not all(row["held"] for row in rows(runs)) or not rows(runs) else 0


if __name__ == "__main__":
    raise SystemExit(main())
