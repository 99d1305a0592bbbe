from types import SimpleNamespace

import pytest

from serving.tower_call import TowerCall


def test_each_call_has_what_is_left_of_the_time_and_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 101.0, 103.0, 110.0, 110.5])  # made; first call begins, ends; second call begins, ends
    monkeypatch.setattr("serving.tower_call.time", SimpleNamespace(monotonic=lambda: next(clock)))
    given, observed = [], []

    def predict(signature: str, inputs: dict, timeout: float) -> dict:
        given.append((signature, inputs, timeout))
        return {"y": len(given)}

    tower = SimpleNamespace(signature_defs={"s": None}, predict=predict)
    call = TowerCall(tower, observed.append, timeout=50.0)  # type: ignore[arg-type]
    assert call.signature_defs == {"s": None}
    assert [call.predict("s", {"x": 0}), call.predict("s", {"x": 1})] == [{"y": 1}, {"y": 2}]  # type: ignore[dict-item]
    assert given == [("s", {"x": 0}, 49.0), ("s", {"x": 1}, 40.0)]
    assert observed == [2e6, 5e5]
