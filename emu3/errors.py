"""The one exception type for input a person can mend; commands turn it into exit code 2."""


class InputError(ValueError):
    """Bad input. The message names the value, what is allowed, and the flag to change."""
