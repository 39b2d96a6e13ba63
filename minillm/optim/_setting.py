"""How a setting of an update rule or a schedule is checked."""


def check_setting(name, value, good, wanted):
    """Refuse a setting that is out of its range (NaN is out of every range)."""
    if not good:
        raise ValueError(f"{name} must be {wanted}, got {value}")
