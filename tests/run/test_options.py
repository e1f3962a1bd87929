"""Run options: names and numbers are checked where they are made, and the command line offers the same names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dse import cli_options
from dse.errors import UserError
from dse.results.record import DIVERGED, FAILED, OK
from dse.run import executors
from dse.train.options import EXECUTORS, RETRY, RunOptions


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"executor": "rey"}, "unknown executor 'rey'; did you mean 'ray'?"),
        ({"workers": 0}, "workers must be at least 1, not 0"),
        ({"timeout": 0}, "timeout must be more than 0 seconds, not 0"),
        ({"timeout": float("nan")}, "timeout must be more than 0 seconds, not nan"),
        ({"gpus": 0.0}, "GPUs per worker must be more than 0 and at most 1, not 0"),
        ({"gpus": 1.5}, "GPUs per worker must be more than 0 and at most 1, not 1.5"),
        ({"retry": "some"}, "unknown retry 'some'; valid: none, failed, all"),
    ],
)
def test_what_is_out_of_range(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        RunOptions(**fields)
    assert str(caught.value) == message
    with pytest.raises(UserError):
        replace(RunOptions(), **fields)


def test_what_is_just_in_range() -> None:
    options = RunOptions("local", workers=1, gpus=1.0, timeout=1e-9, retry="all")
    assert (options.workers, options.gpus, options.timeout) == (1, 1.0, 1e-9)


def test_statuses_to_retry() -> None:
    assert RunOptions().retried == frozenset()
    assert RunOptions(retry="failed").retried == {FAILED}
    assert not RunOptions(retry="failed").retried & {OK, DIVERGED}
    assert RunOptions(retry="all").retried is None


def test_names_on_the_command_line() -> None:
    assert {name.value for name in cli_options.ExecutorName} == set(EXECUTORS) == set(executors.EXECUTORS)
    assert [name.value for name in cli_options.Retry] == list(RETRY)
