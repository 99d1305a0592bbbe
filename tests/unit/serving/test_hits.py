from serving.hits import Hit, Hits

HITS = Hits([7, 2, 5], [b"g", b"b", b"e"], [3.0, 2.0, 1.0])


def test_one_by_one() -> None:
    assert list(HITS) == [Hit(7, b"g", 3.0), Hit(2, b"b", 2.0), Hit(5, b"e", 1.0)]
    assert HITS[-1] == (5, b"e", 1.0)
    assert Hit(2, b"b", 2.0) in HITS


def test_the_best() -> None:
    assert HITS[:2] == Hits([7, 2], [b"g", b"b"], [3.0, 2.0])
    assert (len(HITS[:0]), bool(HITS[:0]), bool(HITS)) == (0, False, True)
