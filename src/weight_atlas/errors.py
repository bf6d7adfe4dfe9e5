"""The one exception that users see as a message rather than as a traceback."""


class AtlasError(Exception):
    """Something a user can mend.

    what: what is wrong; where: the file, key or tensor concerned; remedy: what to do about it.
    A step that ends with this error prints these three and exits with code 1.
    """

    def __init__(self, what: str, *, where: object = None, remedy: str | None = None):
        self.what, self.where, self.remedy = what, where, remedy
        lines = [
            what,
            *([f"  where: {where}"] if where is not None else []),
            *([f"  what to do: {remedy}"] if remedy else []),
        ]
        super().__init__("\n".join(lines))

    def __reduce__(self):
        # Exceptions cross process pools by their arguments; keyword-only ones need this.
        return _rebuild, (self.what, self.where, self.remedy)


def _rebuild(what: str, where: object, remedy: str | None) -> AtlasError:
    return AtlasError(what, where=where, remedy=remedy)
