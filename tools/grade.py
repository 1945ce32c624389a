"""A folder of students' notebooks, run and checked: grades.csv, a row an exercise, and grades.html, all on one page.

    python -m tools.grade FOLDER [--out .] [--minutes 20] [--gigabytes 8]

Files may have any names: which notebook of the course one is, its cells tell. Each is run in a fresh kernel, in a copy
of the course without downloads, with limits of time and memory, and on Linux without a network. Then every answer is
checked again, by the exercises of this checkout. A notebook that crashes, hangs or has lost cells gets what it came to,
and a sentence; none ends the others.

These are programs of strangers, run with your rights: they can read your files. And whoever wants to deceive this, can.
Where that matters, run it in a container: docker run --rm --network none -v FOLDER:/in:ro -v OUT:/out ...
"""

import argparse
import ast
import csv
import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from tqdm import tqdm

from tools.build import ROOT, built, code_cells

COLUMNS = "file", "notebook", "exercise", "verdict", "score", "sentence", "note"
SETTINGS = {"COURSE_DATA": "critters", "COURSE_SEED": "0", "COURSE_STRICT": "0", "CUDA_VISIBLE_DEVICES": ""}
AGAIN = """
def _check_again(path, calls, file):
    import importlib.util, json, os
    spec = importlib.util.spec_from_file_location("course_exercises", path)
    course = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(course)
    for name, answer in calls:
        exercise = getattr(course, name)
        try:
            verdict, sentence = exercise.verdict(eval(answer, globals()))
        except NameError as error:
            verdict, sentence = "not attempted", f"{error}: its cell is lost, or failed."
        except Exception as error:
            verdict, sentence = "not yet", f"{type(error).__name__}: {error}"
        with open(file, "a", encoding="utf-8") as lines:
            lines.write(json.dumps({"exercise": exercise.title, "verdict": verdict, "sentence": sentence}) + "\\n")
"""


# ---- which notebook, and which answers -------------------------------------------------------------------------------


def which(notebook: NotebookNode, course: dict[str, NotebookNode]) -> str | None:
    """The notebook of the course with which one shares the most code cells; None where it shares fewer than three."""
    cells = {cell.source.strip() for cell in code_cells(notebook)}
    shared = {name: len(cells & {c.source.strip() for c in code_cells(one)}) for name, one in course.items()}
    name = max(shared, key=shared.get)
    return name if shared[name] >= 3 else None


def calls(notebook: NotebookNode) -> dict[str, str]:
    """What a notebook hands to each exercise: {"clip": "clip", ...}, in order, of `exercises.clip.check(clip)`."""
    found = {}
    for cell in code_cells(notebook):
        try:
            tree = ast.parse(cell.source)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Attribute(value=ast.Name("exercises"), attr=name), attr="check"),
                    args=[answer],
                ):
                    found[name] = ast.unparse(answer)
    return found


def redefined(notebook: NotebookNode, course: NotebookNode) -> bool:
    """Does it give the name `exercises`, or a part of it, to something else?"""
    own = "\n".join(cell.source for cell in code_cells(notebook))
    assigned = r"^(from .*import .*\bexercises\b.*|import .*\bexercises\b.*|exercises(\.\w+)* *=.*)$"
    right = {line for cell in code_cells(course) for line in cell.source.splitlines()}
    return any(found[0] not in right for found in re.finditer(assigned, own, re.M))


def exercises_of(course: NotebookNode) -> Path:
    """The file with the exercises of a notebook."""
    text = "\n".join(cell.source for cell in code_cells(course))
    topic = re.search(r"from utils.exercises import (\w+) as exercises", text)[1]
    return ROOT / f"utils/exercises/{topic}.py"


# ---- one notebook, in a process of its own ---------------------------------------------------------------------------


def copied(folder: Path) -> None:
    """What a notebook needs of the course: utils/, and of data/ what is small."""
    shutil.copytree(ROOT / "utils", folder / "utils", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "data/measured", folder / "data/measured")
    for file in (ROOT / "data").iterdir():
        if file.is_file() and file.stat().st_size < 10e6:
            shutil.copy(file, folder / "data")


def run(task: dict) -> None:
    """Run a notebook, check its answers again, and write down what was the matter. In a process of its own."""
    if sys.platform == "linux":
        import resource

        limit = int(task["gigabytes"] * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    notebook, notes = nbformat.read(task["file"], as_version=4), []
    again = f"_check_again({task['exercises']!r}, {task['calls']!r}, {task['again']!r})"
    notebook.cells.append(new_code_cell(AGAIN + again))
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=task["minutes"] * 60,
        interrupt_on_timeout=True,
        allow_errors=True,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": task["folder"]}},
    )
    client.km = client.create_kernel_manager()
    client.km.transport = "ipc"  # needs no network; its files lie in the folder
    client.km.ip = str(Path(task["folder"]) / "kernel")
    try:
        client.execute(env=os.environ | SETTINGS | {"COURSE_VERDICTS": task["verdicts"]})
    except DeadKernelError:
        notes.append("The kernel died: out of memory, or a crash.")
    for number, cell in enumerate(code_cells(notebook)[:-1], 1):
        errors = [output for output in cell.outputs if output.output_type == "error"]
        if errors:
            how = f"ended with {errors[0].ename}: {errors[0].evalue}"
            if errors[0].ename == "KeyboardInterrupt":
                how = f"took longer than {task['minutes']:g} minutes and was stopped."
            notes.append(f"Code cell {number} {how}"[:300])
            break
    Path(task["notes"]).write_text(json.dumps(notes), encoding="utf-8")


def no_network() -> list[str]:
    """What to put before a command so that it has no network; [] where the system does not offer it."""
    command = ["unshare", "--map-root-user", "--net"]
    offered = shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0
    return command if offered else []


def lines_of(file: Path) -> dict[str, dict]:
    """The last verdict of each exercise in a file of verdicts, by title."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {line["exercise"]: line for line in map(json.loads, lines)}


def graded(
    file: Path, course: dict[str, NotebookNode], minutes: float, gigabytes: float, prefix: list[str]
) -> list[dict]:
    """The rows of one file, whatever it holds."""
    blank = dict.fromkeys(COLUMNS, "") | {"file": file.name}
    try:
        notebook = nbformat.read(file, as_version=4)
        name = which(notebook, course)
    except Exception as error:  # any file may be handed in under this name
        return [blank | {"note": f"This is no notebook: {str(error).splitlines()[0][:200]}"}]
    if not name:
        return [blank | {"note": "It shares hardly a cell with any notebook of the course."}]
    asked = calls(course[name])
    asked |= {exercise: answer for exercise, answer in calls(notebook).items() if exercise in asked}
    notes = []
    if redefined(notebook, course[name]):
        notes.append("It redefines `exercises`; the course's own were asked.")
    with tempfile.TemporaryDirectory() as work:
        folder, (said, again, told) = Path(work), (Path(work) / n for n in ("said.jsonl", "again.jsonl", "notes.json"))
        copied(folder)
        task = {
            "file": str(file.resolve()), "folder": work, "minutes": minutes, "gigabytes": gigabytes,
            "exercises": str(exercises_of(course[name])), "calls": list(asked.items()),
            "verdicts": str(said), "again": str(again), "notes": str(told),
        }  # fmt: skip
        command = [*prefix, sys.executable, "-m", "tools.grade", "--task", json.dumps(task)]
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True)
        try:
            _, trouble = process.communicate(timeout=2 * minutes * 60)
            if process.returncode:
                last = (trouble.strip().splitlines() or ["for no reason that it told"])[-1]
                notes.append(f"The run broke off: {last}")
        except subprocess.TimeoutExpired:
            notes.append(f"All of it took longer than {2 * minutes:g} minutes.")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        notes += json.loads(told.read_text(encoding="utf-8")) if told.exists() else []
        checked, own = lines_of(again), lines_of(said)
    titles = titles_of(exercises_of(course[name]))
    rows = []
    for exercise in asked:
        title = titles[exercise]
        line = checked.get(title)
        if not line:
            line = own.get(title, {"verdict": "not reached", "sentence": ""})
            line = line | {"sentence": f"As the notebook itself said: {line['sentence']}" if title in own else ""}
        score = re.search(r"\d+(\.\d+)? ?%", line["sentence"]) if exercise == "lab" else None
        row = {"notebook": name, "exercise": exercise, "verdict": line["verdict"], "sentence": line["sentence"]}
        rows.append(blank | row | {"score": score[0] if score else "", "note": " ".join(notes)})
    return rows


def titles_of(file: Path) -> dict[str, str]:
    """The title of each exercise in a file of exercises, by name; the file is read, not run."""
    found = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        match node:
            case ast.Assign(
                targets=[ast.Name(name)], value=ast.Call(func=ast.Name("Exercise"), args=args, keywords=more)
            ):
                title = args[0] if args else next(word.value for word in more if word.arg == "title")
                found[name] = ast.literal_eval(title)
    return found


# ---- all of them -----------------------------------------------------------------------------------------------------


def page(rows: list[dict]) -> str:
    """All rows on one page, a table a file."""
    parts = ["<!doctype html><meta charset='utf-8'><title>Grades</title>"]
    parts.append("<style>body{font-family:sans-serif;max-width:70rem;margin:auto}td{padding:.2em .6em}")
    parts.append(".correct{color:#116329}.not{color:#a40e26}</style>")
    for file in dict.fromkeys(row["file"] for row in rows):
        mine = [row for row in rows if row["file"] == file]
        done = sum(row["verdict"] == "correct" for row in mine)
        parts.append(f"<h2>{html.escape(file)}: {mine[0]['notebook']} {done} of {len(mine)}</h2>")
        parts.append(f"<p>{html.escape(mine[0]['note'])}</p><table>")
        for row in mine if mine[0]["exercise"] else []:
            cells = "".join(f"<td>{html.escape(row[key])}</td>" for key in ("exercise", "verdict", "score", "sentence"))
            parts.append(f"<tr class='{row['verdict'].split()[0]}'>{cells}</tr>")
        parts.append("</table>")
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="where the students' notebooks lie, in folders too")
    parser.add_argument("--out", type=Path, default=Path("."), help="where grades.csv and grades.html go")
    parser.add_argument("--minutes", type=float, default=10, help="the most that a cell may take; all cells twice that")
    parser.add_argument("--gigabytes", type=float, default=8, help="the most memory that one may take (Linux)")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.task:
        run(json.loads(asked.task))
        return 0
    if not asked.folder or not asked.folder.is_dir():
        print(f"{asked.folder}: expected a folder with notebooks: make grade SUBMISSIONS=folder", file=sys.stderr)
        return 2
    files = [path for path in sorted(asked.folder.rglob("*.ipynb")) if ".ipynb_checkpoints" not in path.parts]
    if not files:
        print(f"{asked.folder}: no .ipynb file is in it.", file=sys.stderr)
        return 2
    course = {path.stem: nbformat.read(path, as_version=4) for path in built([])}
    prefix = no_network()
    print("Without a network." if prefix else "This system runs them with the network on.")
    rows = []
    for file in tqdm(files, unit="notebook"):
        rows += graded(file, course, asked.minutes, asked.gigabytes, prefix)
    asked.out.mkdir(parents=True, exist_ok=True)
    with open(asked.out / "grades.csv", "w", newline="", encoding="utf-8") as table:
        writer = csv.DictWriter(table, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    (asked.out / "grades.html").write_text(page(rows), encoding="utf-8")
    print(f"{len(files)} notebooks: {asked.out / 'grades.csv'}, {asked.out / 'grades.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
