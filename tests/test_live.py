"""The notebooks as a class uses them: explorers driven in a browser, kernels interrupted, restarted and resumed.

Each notebook is run three times, so this runs only when it is asked for: make live NOTEBOOK=03. The explorers need
playwright and a Chromium; the kernels need neither.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from statistics import median
from threading import Timer

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel

from tools.build import ROOT, built, code_cells, is_folded, seconds

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SETTINGS = {"COURSE_DATA": "critters", "COURSE_SEED": "0", "COURSE_STRICT": "1"}
PATIENCE = 1200  # seconds for a whole notebook on a slow or busy machine
# From letting a control go to the new picture. Longer only where the text above the explorer says so.
PROMISED = 0.5
LONGER = {"02_residual_blocks": 10}  # gradients of two networks of up to 110 layers
ERROR = "[data-mime-type='application/vnd.jupyter.error'], [data-mime-type='application/vnd.jupyter.stderr']"
# JupyterLab makes a new <img> for each picture, so a redrawing is noticed even where the picture comes out the same.
REDRAWN = "explorer => explorer.querySelector('img:not([data-old])')?.complete"

pytestmark = pytest.mark.live
each_notebook = pytest.mark.parametrize("path", built([]), ids=lambda path: path.stem)


@pytest.fixture
def folder(tmp_path):
    """A folder in which a notebook finds the course; what it writes beside itself does not land in the checkout."""
    for name in ("utils", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


# ---- explorers in a browser ------------------------------------------------------------------------------------------


@contextmanager
def jupyterlab(folder):
    """The addresses of the notebooks in a JupyterLab with nobody's settings, on a free port of the loopback address."""
    own = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "RUNTIME", "DATA")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=os.environ | SETTINGS | own, stdout=log, stderr=log)
        try:
            end = time.monotonic() + 120
            while not (found := list((folder / "runtime").glob("jpserver-*.json"))):
                assert server.poll() is None and time.monotonic() < end, (folder / "server.log").read_text()
                time.sleep(0.2)
            about = json.loads(found[0].read_text())
            yield f"{about['url']}lab/tree/{{}}?token={about['token']}"
        finally:
            server.terminate()  # it ends its kernels, too
            server.wait(60)


@contextmanager
def browser_page():
    """A page in a browser that reaches nothing but this machine, as in a lecture hall."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if not CHROMIUM:
        pytest.skip("needs Chromium on the path")
    no_network = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", no_network])
        yield browser.new_page(viewport={"width": 1400, "height": 1000})
        browser.close()


def run_all(page, address, num_cells):
    page.goto(address, timeout=120_000)
    # JupyterLab asks which kernel to take where somebody is faster than the kernel.
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=120_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    # JupyterLab puts the cells into the page little by little, so they are counted: those with a prompt, the unfolded.
    done = """([error, count]) => document.querySelector(error) || count ==
      [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].filter(p => /\\d/.test(p.textContent)).length"""
    page.wait_for_function(done, arg=[ERROR, num_cells], timeout=1000 * PATIENCE, polling=500)
    assert page.locator(ERROR).all_inner_texts() == []


@each_notebook
def test_every_control_of_every_explorer_redraws(path, folder):
    notebook = nbformat.read(path, as_version=4)
    expected, slow = [], []  # the names of the controls of each explorer; of those that are slow
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
        calls = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)]
        expected += [[k.arg for k in call.keywords] for call in calls if getattr(call.func, "id", None) == "explore"]
    nbformat.write(notebook, folder / path.name)

    with browser_page() as page, jupyterlab(folder) as address:
        run_all(page, address.format(path.name), sum(not is_folded(cell) for cell in code_cells(notebook)))
        explorers = page.locator(".jp-CodeCell:has(.widget-dropdown, .widget-hslider)")
        assert explorers.count() == len(expected)
        for explorer, names in zip(explorers.all(), expected, strict=True):
            controls = explorer.locator(".widget-dropdown, .widget-hslider").all()
            assert [c.locator(".widget-label").text_content() for c in controls] == [n.replace("_", " ") for n in names]
            for name, control in zip(names, controls, strict=True):
                print(end=f"{path.stem[:2]} {name}: ")  # before it is moved, so that it is named where no picture comes
                times, pictures = drive(page, explorer, control)
                print(f"{median(times):.2f} s, of", *[f"{t:.2f}" for t in times])
                assert len(set(pictures)) > 1, f"{name} leaves the picture as it is"
                if median(times) > LONGER.get(path.stem, PROMISED):  # the median forgives one hiccup of the machine
                    slow.append(name)
            assert explorer.locator(ERROR).count() == 0
    assert not slow, f"slower than promised; while others compute that means nothing (load {os.getloadavg()[0]:.1f})"


def drive(page, explorer, control):
    """Move a control five times; return the seconds of each move and all pictures, the first included.

    It is left at the value next to the first one, for the controls after it: in notebook 03 output padding means
    something only once the kind has been moved to "transposed".
    """
    times, pictures = [], [explorer.locator("img").get_attribute("src")]
    is_slider = control.locator(".noUi-handle").count()
    if is_slider:
        handle, track = control.locator(".noUi-handle"), control.locator(".noUi-base")
        count = 1 + round(float(handle.get_attribute("aria-valuemax")))
        first = round(float(handle.get_attribute("aria-valuenow")))
    else:
        count, first = control.locator("option").count(), control.locator("select").evaluate("box => box.selectedIndex")
    control.scroll_into_view_if_needed()
    for step in (1, 2, 3, 2, 1):
        place = (first + step) % count
        explorer.locator("img").evaluate("picture => picture.dataset.old = 1")
        if is_slider:
            handle.hover()  # waits until it stands still: cells above it get their height only as they come into view
            grip, rail = handle.bounding_box(), track.bounding_box()
            page.mouse.down()
            page.mouse.move(rail["x"] + rail["width"] * place / (count - 1), grip["y"] + grip["height"] / 2, steps=3)
            start = time.perf_counter()
            page.mouse.up()
        else:
            start = time.perf_counter()
            control.locator("select").select_option(index=place)
        page.wait_for_function(REDRAWN, arg=explorer.element_handle(), timeout=30_000)
        times.append(time.perf_counter() - start)
        pictures.append(explorer.locator("img").get_attribute("src"))
    return times, pictures


# ---- kernels interrupted and restarted -------------------------------------------------------------------------------


@each_notebook
def test_interrupted_restarted_and_resumed(path, folder):
    cells = code_cells(nbformat.read(path, as_version=4))
    # The longest after set-up and imports: in every notebook that is a cell that trains.
    long = max(range(2, len(cells)), key=lambda k: seconds(cells[k]))
    moment = seconds(cells[long]) / 4  # a machine four times as fast is still at it
    manager, client = start_new_kernel(cwd=str(folder), env=os.environ | SETTINGS)
    try:
        for cell in cells[:long]:
            run(client, cell)
        Timer(moment, manager.interrupt_kernel).start()
        status, text = execute(client, cells[long])
        print(f"interrupted after {moment:.1f} s: {text.strip().splitlines()[-1:]}")
        assert "KeyboardInterrupt" in text if status == "error" else "Stopped in epoch" in text, text
        for cell in cells[long : long + 2]:
            run(client, cell)

        client.execute(cells[long].source)
        time.sleep(moment)
        manager.restart_kernel()
        client.wait_for_ready(timeout=60)
        for cell in cells:
            run(client, cell)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def run(client, cell):
    status, text = execute(client, cell)
    assert status == "ok", f"{cell.source}\n{text}"


def execute(client, cell) -> tuple[str, str]:
    """The kernel's answer (ok or error), and what the cell printed, with the traceback of an error."""
    printed = []

    def listen(message):
        content = message["content"]
        printed.extend([content["text"]] if message["msg_type"] == "stream" else content.get("traceback", []))

    reply = client.execute_interactive(cell.source, timeout=PATIENCE, output_hook=listen)
    return reply["content"]["status"], re.sub(r"\x1b\[[\d;]*m", "", "\n".join(printed))
