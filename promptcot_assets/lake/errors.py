"""The one error of the lake."""


class LakeError(Exception):
    """Bad input to the lake, or damaged data in it. The message names the table, row or file, and the mend."""
