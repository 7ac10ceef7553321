"""Arrays of codes: (h, w) of a picture, (T, h, w) of a clip; NOT_MADE where one is to come."""

import numpy as np

NOT_MADE = -1


def finished_rows(codes: np.ndarray) -> int:
    """Rows of a picture (latent frames of a clip) before the first one that is not whole."""
    whole = (codes >= 0).reshape(len(codes), -1).all(axis=1)
    return int(np.argmin(whole)) if not whole.all() else len(whole)
