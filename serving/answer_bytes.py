"""Answers of retrieval.proto as bytes.

A hundred items as message objects take longer to fill and to serialise than they took to find. So what an answer has
once is serialised by protobuf and what it has for each item is written here: messages one after the other are one
message, with the fields of both.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from serving.hits import Hits
from serving.proto import retrieval_pb2

ITEMS = retrieval_pb2.RecommendResponse.ITEMS_FIELD_NUMBER
RESULTS = retrieval_pb2.RecommendBatchResponse.RESULTS_FIELD_NUMBER
RESPONSE = retrieval_pb2.RecommendResult.RESPONSE_FIELD_NUMBER
ITEM_ID = retrieval_pb2.Recommendation.ITEM_ID_FIELD_NUMBER
SCORE = retrieval_pb2.Recommendation.SCORE_FIELD_NUMBER

FIXED32, LENGTH = 5, 2  # wire types
ITEMS_TAG, ITEM_ID_TAG, SCORE_TAG = ITEMS << 3 | LENGTH, ITEM_ID << 3 | LENGTH, SCORE << 3 | FIXED32
START = struct.Struct("<BBBfBB")  # an item's tag and length, its score's tag and value, its id's tag and length
AFTER_LENGTH = START.size - 2
LONGEST_ID = 0x7F - AFTER_LENGTH  # bytes; the length of a longer one's item takes more than one byte

Features = Callable[[int], Mapping[str, str]]


def items(hits: Hits, features: Features | None = None) -> bytes:
    """The items of a RecommendResponse.

    Args:
      hits: what was found.
      features: what to return of an item besides id and score, by its row; None for nothing.

    Raises:
      UnicodeDecodeError: an id is no text.
    """
    if features is not None or max(map(len, hits.item_ids), default=0) > LONGEST_ID:
        return b"".join([field(ITEMS, _item(*hit, features)) for hit in hits])
    b"\n".join(hits.item_ids).decode()
    pairs = zip(hits.item_ids, hits.scores, strict=True)
    return b"".join(
        [
            START.pack(ITEMS_TAG, AFTER_LENGTH + (size := len(item_id)), SCORE_TAG, score, ITEM_ID_TAG, size) + item_id
            for item_id, score in pairs
        ]
    )


def field(number: int, content: bytes) -> bytes:
    """A serialised message as the field of another, 1 <= number <= 15."""
    size, length = len(content), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | LENGTH, *length, size]) + content


def _item(row: int, item_id: bytes, score: float, features: Features | None) -> bytes:
    item = retrieval_pb2.Recommendation(item_id=item_id.decode(), score=score, features=features and features(row))
    content: bytes = item.SerializeToString()
    return content
