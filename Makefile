# Thin on purpose: one or two lines a target. People without make find the same commands in README.md.
PYTHON ?= python3
VENV ?= .venv
NOTEBOOK ?=
# TORCH=cpu: without CUDA's libraries. LOCKED=1: the versions of constraints.txt. Both where the environment is made.
TORCH ?=
LOCKED ?=
SEEDS ?= 10
TABLE ?=
ADDRESS ?=
SUBMISSIONS ?=
AGAIN ?=
JOBS ?= 1

PY = "$(VENV)/bin/python"
# The course's notebooks are those that have a source; copies beside them are left out.
SOURCES = $(sort $(wildcard notebooks/source/$(NOTEBOOK)*.py))
BUILT = $(or $(SOURCES:notebooks/source/%.py=notebooks/%.ipynb),notebooks/$(NOTEBOOK)*.ipynb)
NBVAL = --nbval-lax --nbval-current-env
# The photo notebooks are those whose source asks for a photo data set.
PHOTO_BUILT = $(shell grep -lE '(from utils.datasets import|datasets\.).*\b(dogs_vs_cats|pets|lesions)\b' $(or $(SOURCES),/dev/null) | \
	sed 's,^notebooks/source/\(.*\)\.py$$,notebooks/\1.ipynb,')
# JupyterLab refuses to run as root (so in most containers) unless told; a browser is opened only where a screen is.
LAB_FLAGS = $$([ "$$(id -u)" = 0 ] && echo --allow-root) \
	$$([ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || [ "$$(uname)" = Darwin ] || echo --no-browser)

# No question about news and no word on updates: a projector shows them.
QUIET = --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate

.PHONY: help lab test site preflight slides handout grade check notebooks address measure seeds live test-photos test-site bench lock

help:  ## list these targets
	@awk -F ':.*## ' '/^##@/ {print "\n" substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

# Made once, and again when requirements.txt changes or something has taken packages away; one that has all is looked through.
LOSABLE = $(addprefix $(VENV)/bin/,jupyter-lab torchrun jupytext pytest ruff)
$(LOSABLE): ;
$(VENV)/.requirements: requirements.txt $(LOSABLE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, but $(PYTHON) is " + \
	  sys.version.split()[0] + ": install a newer one and name it, as in make PYTHON=python3.13")'
	@[ -x "$(VENV)/bin/pip" ] || $(PYTHON) -m venv "$(VENV)"
	$(if $(filter cpu,$(TORCH)),$(PY) -m pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu)
	$(PY) -m pip install --disable-pip-version-check -r requirements.txt $(if $(LOCKED),-c constraints.txt)
	@touch "$@"

##@ For everyone

lab: $(VENV)/.requirements  ## open JupyterLab at the first notebook
	$(PY) -m jupyterlab --ip 127.0.0.1 $(LAB_FLAGS) $(QUIET) --LabApp.default_url=/lab/tree/$(firstword $(BUILT))

test: $(VENV)/.requirements  ## check, the slow tests, then every notebook from top to bottom on the embedded data
	COURSE_DATA=critters COURSE_SEED=0 COURSE_STRICT=1 \
	$(PY) -m pytest -m "slow or not slow" $(NBVAL) --nbval-cell-timeout=300 tests $(BUILT)

site: $(VENV)/.requirements  ## the course as a website in site/ (FRAMES=0: explorers stay still pictures, a minute)
	$(PY) -m tools.site

##@ For a class

preflight: $(VENV)/.requirements  ## before a lecture: is this machine ready? (NOTEBOOK=05, COURSE_DATA as in the lecture)
	$(PY) -m tools.preflight $(NOTEBOOK)

slides: $(VENV)/.requirements  ## the notebooks as slides with speaker notes, in slides/ (looked through where Chromium is installed)
	$(PY) -m tools.slides $(NOTEBOOK)
	$(PY) -m pytest -q tests/test_slides.py

handout: $(VENV)/.requirements  ## a notebook to hand out, without hints, also as Python and PDF, and its answers, in handout/
	$(PY) -m tools.handout $(NOTEBOOK)

grade: $(VENV)/.requirements  ## run and check a folder of students' notebooks (SUBMISSIONS=folder): grades.csv, grades.html
	$(PY) -m tools.grade $(SUBMISSIONS)

##@ For those who change the course

check: $(VENV)/.requirements  ## unit tests and the form of the notebooks (under 2 minutes on two cores)
	$(PY) -m pytest tests

notebooks: $(VENV)/.requirements  ## build and run the notebooks from their sources (NOTEBOOK=05 for one)
	$(PY) -m tools.build $(NOTEBOOK)
	$(PY) -m tools.readme

address: $(VENV)/.requirements  ## write texts, address and version into the notebooks without running them (ADDRESS=, else git's remote)
	$(PY) -m tools.address $(ADDRESS)
	$(PY) -m tools.build --no-run $(NOTEBOOK)
	$(PY) -m tools.readme

measure: $(VENV)/.requirements  ## measure what is missing of data/measured/ (TABLE=degradation for one; AGAIN=1 also what older code made; JOBS=8 at once)
	$(PY) -m tools.measure_tables $(TABLE) $(if $(AGAIN),--again) --jobs $(JOBS)

seeds: $(VENV)/.requirements  ## do the claims hold on 10 seeds? (NOTEBOOK=05, SEEDS=10; JOBS=8 at once)
	$(PY) -m tools.check_claims $(NOTEBOOK) --seeds $(SEEDS) --jobs $(JOBS)

live: $(VENV)/.requirements  ## every explorer driven in a browser, every kernel interrupted and restarted (NOTEBOOK=03 for one)
	$(PY) -m pytest -m live -k "$(NOTEBOOK)" -rP tests/test_live.py

test-photos: $(VENV)/.requirements  ## the photo notebooks and tests on real photos (COURSE_DATA_DIR, default data)
	@[ -n "$(PHOTO_BUILT)" ] || { echo "No notebook named $(NOTEBOOK)* uses photos."; exit 1; }
	photos=$$(cd "$${COURSE_DATA_DIR:-data}" && pwd) && export COURSE_DATA_DIR="$$photos" COURSE_DATA=photos COURSE_STRICT=1 && \
	$(PY) -m pytest -m photos tests && $(PY) -m pytest $(NBVAL) --nbval-cell-timeout=900 $(PHOTO_BUILT)

test-site: site  ## every page of the site in a browser without a network (needs playwright and Chromium)
	$(PY) -m pytest -m site -rs tests/test_site.py

bench: $(VENV)/.requirements  ## the course's speed against the usual recipe, written into docs/speed.md (20 minutes, quiet machine)
	$(PY) -m tools.speed

lock: test  ## after a green run of everything: its versions, into constraints.txt
	(sed 1q constraints.txt; $(PY) -m pip freeze --exclude-editable | grep -v ' @ ') > constraints.tmp && mv constraints.tmp constraints.txt
