"""What tests of a report's words and tables leave out."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times at one place, not four, and figures that are not written as PDF: half the time of a report."""
    from dse.report.analysis import deployment
    from dse.report.figures import drawing

    saved = drawing._saved

    def without_pdf(figure: Figure, kind: str, metadata: dict[str, str | None]) -> bytes:
        return b"" if kind == "pdf" else saved(figure, kind, metadata)

    monkeypatch.setattr(deployment, "PLACES", deployment.PLACES[:1])
    monkeypatch.setattr(drawing, "_saved", without_pdf)
