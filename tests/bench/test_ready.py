from __future__ import annotations

import pytest

from dse.bench import ready


@pytest.mark.slow
def test_lines_of_packs(capfd: pytest.CaptureFixture[str]) -> None:
    ready.main(["nvfp4", "no_recipe", "--model", "mlp", "--device", "cpu"])
    head, *lines = capfd.readouterr().out.splitlines()
    assert head.startswith("pack")
    assert [line.split()[:2] for line in lines] == [
        [name, s] for name in ("nvfp4", "no_recipe") for s in ("empty", "full")
    ]
    assert [line.split()[2] for line in lines] == ["0", "0", "failed", "failed"], "a CPU compiles no kernels"
