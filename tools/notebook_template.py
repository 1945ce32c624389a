# %% [markdown]
# # 04 · The title
#
# @BADGES@
#
# **To keep what you write:** on Colab choose *File > Save a copy in Drive*, on Kaggle *Copy & Edit*, before you begin.
#
# **Question:** what does this notebook answer, in one sentence?
#
# **You will be able to**
# - first thing,
# - second thing,
# - third thing.
#
# **Time:** it runs in @TIME@ on two CPU cores and in ... on a GPU; with the exercises, about ... minutes.
# **Before this:** notebook 03.

# %% [markdown] slideshow={"slide_type": "notes"}
# **A plan for 75 minutes** (the core takes 65 to 70, with its exercises)
#
# - **Core:** sections 1 and 2: what the class takes home.
# - **Optional:** what can wait.
# - **Where to stop:** after which figure or claim, and where if you are late.

# %% slideshow={"slide_type": "skip"}
# Set-up: finds the course's files here, on Kaggle or on the net. Just run it.
import os, shutil, subprocess, sys; from pathlib import Path

repo, clone = "@REPO@", Path("deep-learning-for-images-@REF@").absolute()
book = globals().get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME", "")
near = [*clone.parents, *Path(book).absolute().parents, *Path("/kaggle/input").glob("**/"), clone]
course = next((folder for folder in near if os.path.isfile(folder / "utils/lessons.py")), None)
if not course:
    git = shutil.which("git") or sys.exit("Install git: it fetches the course.")
    got = subprocess.run([git, "clone", "--depth=1", "-b@REF@", repo, course := clone], stderr=-1, errors="replace")
    got.returncode and sys.exit(f"No network (Kaggle: Settings)? Or a private address?\n{got.stderr}")
sys.path.insert(0, str(course))
if getattr(sys.modules.get("utils"), "__path__", None) != [str(course / "utils")]:
    [sys.modules.pop(name) for name in [*sys.modules] if name.split(".")[0] == "utils"]
import utils

device = utils.start()

# %% slideshow={"slide_type": "skip"}
# What this notebook imports. Everything that is not PyTorch is in the folder utils/.
from utils import datasets, figures
from utils.exercises import the_topic as exercises
from utils.lessons import claim, fact, summary

# %% [markdown]
# ## 1. The idea (30 min)
#
# One idea. Mathematics in LaTeX with the symbols of the code: $y = x + f(x)$.

# %%
# One idea a cell, and right after it its value or its picture.
train, val, test = datasets.dogs_vs_cats()
len(train)

# %%
# What is exact is a fact: it comes out the same in every run.
image, label = train[0]
fact("a picture has three channels", image.shape[0] == 3, f"{tuple(image.shape)}")

# %% [markdown]
# **Exercise 1** (3 min): fill in. Replace the dots, run the cell, and read what the check says.

# %%
answer = ...
exercises.fill_in.check(answer)

# %% slideshow={"slide_type": "skip"}
# exercises.fill_in.hint()
# exercises.fill_in.solution()

# %% [markdown]
# ## 2. The experiment (35 min)
#
# **Before you run it:** which of the two will train faster? Why?
#
# <details><summary>Answer</summary>
#
# Folded away: the answer, with its reason.
#
# </details>

# %%
# The code that stays fixed stays fixed, so that the line that changes is the lesson.
errors = {"plain": 0.2, "residual": 0.1}


# %%
# extra code: one bar for the chosen network
def draw(network):
    """The figure; its title states the finding, and its alt text says it to those who do not see the figure."""
    fig, ax = figures.plt.subplots()
    ax.barh(network, errors[network])
    ax.set(xlabel="test error", title="The finding")
    return fig, f"The {network} network has a test error of {errors[network]:.0%}."


# %%
figures.explore(draw, network=list(errors))

# %% [markdown] slideshow={"slide_type": "notes"}
# What to tell the class about the figure, and what it usually answers. The build folds this under "For the instructor".

# %%
# What was measured is a claim. Its rivals stand in the condition, and what was the
# same for all on its card.
claim(
    "what the experiment showed, in words",
    errors["residual"] < errors["plain"],
    f"test error {errors['residual']:.0%} against {errors['plain']:.0%}",
    same=f"{len(train)} pictures, 50 steps; rate chosen on validation",
)

# %% [markdown]
# **Exercise 2** (3 min): change the line that is the lesson.

# %%
answer = ...
exercises.change_it.check(answer)

# %% slideshow={"slide_type": "skip"}
# exercises.change_it.hint()
# exercises.change_it.solution()

# %% [markdown]
# ## 3. Exercises (20 min)
#
# Those that take longer; the last one is built by the student. Checks, hints and solutions live in `utils/exercises/`.
#
# **Exercise 3**: build it yourself.


# %%
def built(x): ...


exercises.build_it.check(built)

# %% slideshow={"slide_type": "skip"}
# exercises.build_it.hint()
# exercises.build_it.solution()

# %% [markdown]
# ## 4. Lab (30 min)
#
# Open-ended. Say how it is scored on held-out data and what counts as good.

# %% [markdown]
# ## Summary
#
# The claims, in words; below, as measured in this run.

# %%
summary()

# %% [markdown]
# ### Lecture topics
#
# | topic | section | lectures |
# |---|---|---|
# | U1 the topic, with its id | 1 | A |
# | U2 the next topic | 1, 2 | A, C |
#
# ### Further reading
# - A. Author, B. Author. *Title*. Venue, year. https://arxiv.org/abs/...
#
# ### Next notebook
# 05 · Transfer learning
