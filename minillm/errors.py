"""The error that is the user's to mend: its message is one line, printed without a traceback."""


class UserError(ValueError):
    """Wrong input from a person: a file, a flag, a prompt. Says what came and what was expected."""
