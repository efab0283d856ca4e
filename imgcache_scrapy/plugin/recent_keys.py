"""RecentKeys: remembers which keys were seen last, in bounded memory."""


class RecentKeys:
    """Remembers the keys that were seen last: at least `minimum`, at most twice as many.

    Args:
        minimum: how many keys are remembered at least.
    """

    def __init__(self, *, minimum: int) -> None:
        self._minimum = minimum
        self._recent: set[int] = set()
        self._older: set[int] = set()

    def add(self, key: str) -> bool:
        """Remember a key.

        Returns:
            Whether it is new, as far as is remembered.
        """
        digest = hash(key)
        if digest in self._recent or digest in self._older:
            return False
        if len(self._recent) >= self._minimum:
            self._recent, self._older = set(), self._recent
        self._recent.add(digest)
        return True
