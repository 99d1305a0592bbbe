from typing import cast

import grpc
import pytest
from tensorflow_serving.apis import get_model_status_pb2

from serving.model_spec import model_status
from serving.retriever import Retriever
from serving.served import Current, Served, VersionState, pick
from serving.status import RequestError

# Stand-ins: which release is found is all that matters here.
ONE, TWO, THREE = (cast(Retriever, f"release {n}") for n in (1, 2, 3))
LOADED = {1: ONE, 2: TWO, 3: THREE}
SPLIT = {"stable": 90, "canary": 10}


def test_the_newest_answers() -> None:
    served = Served("m", LOADED)
    assert served.find("m") is THREE
    assert served.assign("alice") == ("", THREE)
    assert served.assign("") == ("", THREE)


def test_the_newest_that_a_pin_allows_answers() -> None:
    served = Served("m", LOADED, newest=2)
    assert served.find("m") is TWO
    assert served.find("m", version=3) is THREE
    assert served.assign("alice") == ("", TWO)


def test_label_and_version() -> None:
    served = Served("m", LOADED, {"stable": 1})
    assert served.find("m", label="stable") is ONE
    assert served.find("m", version=2) is TWO
    with pytest.raises(RequestError, match=r"^Unrecognized servable version label: x$") as raised:
        served.find("m", label="x")
    assert raised.value.status is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("name", "version", "message"), [("o", None, "Latest(o)"), ("o", 1, "Specific(o, 1)"), ("m", 4, "Specific(m, 4)")]
)
def test_not_found(name: str, version: int | None, message: str) -> None:
    with pytest.raises(RequestError) as raised:
        Served("m", LOADED).find(name, version)
    assert (raised.value.status, str(raised.value)) == (
        grpc.StatusCode.NOT_FOUND,
        f"Servable not found for request: {message}",
    )


def test_nothing_loaded() -> None:
    with pytest.raises(RequestError, match=r"Latest\(m\)"):
        Served("m").assign("alice")


# printf %s alice | sha256sum begins with 2bd806c97f0e00af, which is 7 modulo 100; bob's is 50, 42's 37, 日本語's 71.
@pytest.mark.parametrize(
    ("shares", "labels"),
    [
        ({"canary": 10, "stable": 90}, ["canary", "stable", "stable", "stable"]),
        ({"stable": 90, "canary": 10}, ["canary", "stable", "stable", "stable"]),
        ({"canary": 7, "stable": 93}, ["stable", "stable", "stable", "stable"]),
        ({"canary": 8, "stable": 92}, ["canary", "stable", "stable", "stable"]),
        ({"a": 38, "b": 13, "c": 49}, ["a", "b", "a", "c"]),
        ({"a": 37, "b": 13, "c": 50}, ["a", "c", "b", "c"]),
        ({"only": 100}, ["only"] * 4),
    ],
)
def test_the_same_id_always_has_the_same_label(shares: dict[str, int], labels: list[str]) -> None:
    assert [pick(shares, query_id) for query_id in ("alice", "bob", "42", "日本語")] == labels


# printf %s autumn/alice | sha256sum begins with 5b356a7666b495ba, 70 modulo 100; bob's is 91, 42's 35, 日本語's 6.
def test_another_salt_deals_anew() -> None:
    labels = [pick(SPLIT, query_id, "autumn") for query_id in ("alice", "bob", "42", "日本語")]
    assert labels == ["stable", "stable", "stable", "canary"]
    # Of 10,000 that are the canary without a salt, a tenth is with one: 1,000 with standard deviation 30.
    ids = [query_id for query_id in map(str, range(100_000)) if pick(SPLIT, query_id) == "canary"]
    assert abs(sum(pick(SPLIT, query_id, "autumn") == "canary" for query_id in ids) - len(ids) / 10) < 120


def test_shares() -> None:
    # Of 100,000 ids 10,000 are expected with standard deviation sqrt(100,000 * .1 * .9) = 95: four of them are 380.
    canary = sum(pick(SPLIT, f"user-{n}") == "canary" for n in range(100_000))
    assert abs(canary - 10_000) < 380


def test_a_growing_share_keeps_who_had_it() -> None:
    ids = [str(n) for n in range(2000)]
    before = {query_id for query_id in ids if pick({"canary": 10, "stable": 90}, query_id) == "canary"}
    after = {query_id for query_id in ids if pick({"canary": 25, "stable": 75}, query_id) == "canary"}
    assert before < after


def test_traffic_is_split_by_query() -> None:
    served = Served("m", LOADED, {"stable": 1, "canary": 2}, SPLIT)
    assert served.assign("alice") == ("canary", TWO)
    assert served.assign("bob") == ("stable", ONE)
    salted = Served("m", LOADED, {"stable": 1, "canary": 2}, SPLIT, salt="autumn")
    assert salted.assign("alice") == ("stable", ONE)
    assert salted.assign("日本語") == ("canary", TWO)


def test_without_a_query_the_largest_share_answers() -> None:
    served = Served("m", LOADED, {"stable": 1, "canary": 2}, SPLIT)
    assert served.find("m") is ONE
    assert served.assign("") == ("stable", ONE)
    assert served.find("m", version=3) is THREE


def test_share_of_a_label_that_is_not_loaded_goes_to_the_default() -> None:
    served = Served("m", LOADED, {"stable": 1}, SPLIT)
    assert served.assign("alice") == ("stable", ONE)
    served = Served("m", LOADED, {}, SPLIT, newest=2)
    assert served.assign("alice") == ("", TWO)


def test_status_that_names_a_file_which_is_not_utf_8() -> None:
    current = Current("m")
    current.tell(5, VersionState.END, 15, "r/5/\udcff: the file is unexpected")  # as Python reads the byte ff in a name
    request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "m"})
    (status,) = model_status(current, request).model_version_status
    assert status.status.error_message == "r/5/?: the file is unexpected"
