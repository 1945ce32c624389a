"""Many runs at once: on the cores of one machine (`--jobs`), or on several machines by Dask (`--dask`).

Each run is a task of its own and knows nothing of the others, so its result is the same however they were spread.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator

from joblib import Parallel, delayed, parallel_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=1, help="how many are run at once (default 1)")
    parser.add_argument("--dask", metavar="ADDRESS", help="of a Dask scheduler, whose workers have this checkout")


def workers(arguments: argparse.Namespace) -> int:
    """How many tasks are run at once, as the command's arguments say. Connects to Dask where they ask for it."""
    if not arguments.dask:
        return arguments.jobs
    from dask.distributed import Client  # only for this

    client = Client(arguments.dask)
    parallel_config(backend="dask")
    return len(client.ncores())


def spread(task: Callable, inputs: Iterable, jobs: int) -> Iterator[tuple]:
    """(input, task(input)) of each input, in their order, as they come. task: of a module, not of "__main__"."""
    inputs = list(inputs)
    results = Parallel(n_jobs=jobs, return_as="generator")(delayed(task)(one) for one in inputs)
    return zip(inputs, results, strict=True)
