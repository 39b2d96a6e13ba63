"""Mistakes that would explain a wrong gradient."""

__all__ = ["diagnose"]


def diagnose(evidence):
    return []
