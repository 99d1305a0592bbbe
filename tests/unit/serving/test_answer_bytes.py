import math

import numpy as np
import pytest

from serving import answer_bytes
from serving.hits import Hits
from serving.proto import retrieval_pb2


def hits(*pairs: tuple[bytes, float]) -> Hits:
    ids, scores = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return Hits(list(range(len(pairs))), ids, scores)


def items(content: bytes) -> list[tuple[str, float, dict[str, str]]]:
    found = retrieval_pb2.RecommendResponse.FromString(content).items
    return [(item.item_id, item.score, dict(item.features)) for item in found]


def test_bytes_of_one_item() -> None:
    # items = 1, of wire type 2: 0x0a; 9 bytes follow: score = 2, of wire type 5: 0x15, 1.5 = 0x3fc00000 with its last
    # byte first; item_id = 1, of wire type 2: 0x0a, 2 bytes, "ab".
    assert answer_bytes.items(hits((b"ab", 1.5))) == bytes.fromhex("0a09 15 0000c03f 0a02 6162".replace(" ", ""))


@pytest.mark.parametrize("length", [0, 1, 119, 120, 121, 122, 127, 128, 20_000])
def test_ids_of_any_length(length: int) -> None:
    item_id = b"x" * length
    expected = [("y", 2.0, {}), (item_id.decode(), -0.5, {})]
    assert items(answer_bytes.items(hits((b"y", 2.0), (item_id, -0.5)))) == expected


def test_numbers_and_text_that_are_rare() -> None:
    third = float(np.float32(1 / 3))
    found = items(answer_bytes.items(hits(("ü\x00日".encode(), third), (b"zero", 0.0), (b"inf", math.inf))))
    assert found == [("ü\x00日", third, {}), ("zero", 0.0, {}), ("inf", math.inf, {})]
    assert answer_bytes.items(hits()) == b""


@pytest.mark.parametrize("features", [None, lambda row: {}])
def test_an_id_that_is_no_text_is_refused(features: answer_bytes.Features | None) -> None:
    with pytest.raises(UnicodeDecodeError):
        answer_bytes.items(hits((b"good", 1.0), (b"\xff", 0.5)), features)


def test_features() -> None:
    found = answer_bytes.items(hits((b"a", 2.0), (b"b", 1.0)), lambda row: {"row": str(row)} if row else {})
    assert items(found) == [("a", 2.0, {}), ("b", 1.0, {"row": "1"})]


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_383, 16_384, 70_000])
def test_a_message_within_another(length: int) -> None:
    response = retrieval_pb2.RecommendResponse(fingerprint="x" * length)
    result = answer_bytes.field(answer_bytes.RESPONSE, response.SerializeToString())
    batch = retrieval_pb2.RecommendBatchResponse.FromString(
        answer_bytes.field(answer_bytes.RESULTS, result) + answer_bytes.field(answer_bytes.RESULTS, b"")
    )
    assert batch.results[0].response == response
    assert [result.HasField("response") for result in batch.results] == [True, False]


def test_a_batch_serialises_as_protobuf_does() -> None:
    result = retrieval_pb2.RecommendResult(response=retrieval_pb2.RecommendResponse(label="l" * 300))
    content = answer_bytes.field(answer_bytes.RESPONSE, result.response.SerializeToString())
    assert content == result.SerializeToString()
