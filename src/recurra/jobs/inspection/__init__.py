"""Instruments as jobs: measure, draw, and leave a folder with PNGs, figures and one page."""

from recurra.jobs.inspection.folder import Inspection

__all__ = ["Inspection"]
