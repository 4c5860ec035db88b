"""Keeps values for each browser tab, such as the photo that it shows."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

_TABS = 8  # tabs whose values are kept: at most about 50 MB each


class TabStore:
    """One value of each kind for each browser tab; those of the oldest tabs are dropped."""

    def __init__(self) -> None:
        self._tabs: OrderedDict[str, dict[str, tuple[Hashable, Any]]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, session: str, kind: str, key: Hashable, value: object) -> None:
        """Keep a value; it replaces the previous one of the kind.

        Args:
            session: identifies the browser tab.
            kind: what the value is.
            key: everything that the value depends on.
            value: the value.
        """
        with self._lock:
            self._tabs.setdefault(session, {})[kind] = key, value
            self._tabs.move_to_end(session)
            while len(self._tabs) > _TABS:
                self._tabs.popitem(last=False)

    def get(self, session: str, kind: str, key: Hashable) -> Any:
        """The kept value, if it has the key; otherwise it is dropped.

        Args:
            session: identifies the browser tab.
            kind: what the value is.
            key: see `put`.

        Returns:
            None if no value with this key is kept.
        """
        with self._lock:
            values = self._tabs.get(session, {})
            kept_key, value = values.get(kind, (None, None))
            if kept_key != key:
                values.pop(kind, None)
                return None
            return value
