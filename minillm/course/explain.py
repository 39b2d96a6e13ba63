"""What a student is told about a failure: the smallest case, the values on the way, a diagnosis."""

__all__ = ["failure"]


def failure(plan, run, child, case, seed):
    """Several lines about a check that fails at `case`."""
    return ""
