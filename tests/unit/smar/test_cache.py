from meta1g.smar.cache import TtlCache


def test_expiry_and_counts() -> None:
    cache: TtlCache[str] = TtlCache(10)
    cache.put("a", "x", 5.0, 0.0)
    assert cache.get("a", 4.9) == "x"
    assert cache.get("a", 5.0) is None
    assert cache.get("b", 0.0) is None
    cache.put("late", "x", 1.0, 1.0)
    assert cache.counts() == (1, 1, 2, 0)
    cache.clear()
    assert cache.get("a", 1.0) is None


def test_bounded_expired_go_first() -> None:
    cache: TtlCache[int] = TtlCache(3)
    for number, expires in enumerate((100.0, 2.0, 100.0)):
        cache.put(number, number, expires, 0.0)
    cache.put(3, 3, 100.0, 10.0)
    assert [cache.get(n, 10.0) for n in range(4)] == [0, None, 2, 3]
    cache.put(4, 4, 100.0, 10.0)
    assert [cache.get(n, 10.0) for n in range(5)] == [None, None, 2, 3, 4]
    assert cache.counts().entries == 3


def test_a_new_value_goes_to_the_end() -> None:
    cache: TtlCache[int] = TtlCache(2)
    cache.put("a", 1, 9.0, 0.0)
    cache.put("b", 1, 9.0, 0.0)
    cache.put("a", 2, 9.0, 0.0)
    cache.put("c", 1, 9.0, 0.0)
    assert cache.get("b", 0.0) is None and cache.get("a", 0.0) == 2
