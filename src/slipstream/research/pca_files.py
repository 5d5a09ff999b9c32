"""The market factor from the files that ``slipstream research factors`` wrote, for a search that is to use those.

A search estimates the factor itself unless told otherwise; both ways give the same exposures on the same bars. Files
are for a factor that was built once, looked at, and is meant.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from slipstream.core.factors.pca import as_of_rows
from slipstream.core.factors.pca_spec import PCASpec
from slipstream.core.frames import cells, index_ms
from slipstream.core.panel import FloatArray, Panel
from slipstream.errors import DataError


def pca_file(folder: Path, spec: PCASpec) -> Path:
    """Where the betas of a factor lie; its coefficients lie beside them."""
    return folder / f"pca_factor_H{spec.H_hours}_K{spec.K}_{spec.weight_method}.csv"


def read_exposures(folder: Path, spec: PCASpec, panel: Panel, build: str) -> FloatArray:
    """Betas and coefficients known at each row of a panel, shape (T, 2, 1, N), as a search takes them.

    Args:
        folder: of the files.
        spec: which factor.
        panel: whose rows and coins; a coin the files lack has no beta.
        build: the command that writes the files, for the message where one is absent.

    Raises:
        DataError: a file is absent or cannot be read, or has no coin of the panel.
    """
    from slipstream.lake.wide_csv import read_wide_csv

    betas = pca_file(folder, spec)
    coefs = betas.with_name(f"{betas.stem}_coefs.csv")
    out = np.full((panel.rows, 2, 1, len(panel.coins)), np.nan)
    for place, file in enumerate((betas, coefs)):
        if not file.is_file():
            raise DataError(f"{file}: no such file; build it with: {build}")
        frame = read_wide_csv(file)
        if not frame.columns.isin(panel.coins).any():
            raise DataError(f"{file}: no coin in common with {panel.source}; build it from the same data with: {build}")
        values = cells(frame.reindex(columns=list(panel.coins)), file.name)
        row = as_of_rows(index_ms(frame, file.name), panel.known_at_ms, spec.max_age_ms)
        held = row >= 0
        out[held, place, 0] = values[row[held]]
    return out
