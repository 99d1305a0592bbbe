"""What the servicers answer from."""

from __future__ import annotations

from serving.retriever import Retriever


class Current:
    """The release being served. It is replaced by one assignment; each request reads `retriever` once."""

    def __init__(self, model_name: str) -> None:
        self.model_name = model_name
        self.retriever: Retriever | None = None  # None until the first release is loaded
