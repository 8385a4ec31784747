"""What a reference says when the contract must refuse."""


class Revert:
    """A predicted custom error, with its fields in order."""

    def __init__(self, name: str, *arguments):
        self.name = name
        self.arguments = arguments
