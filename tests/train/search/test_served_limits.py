"""How many requests come from where."""

from alignset.train.search.served_limits import RateLimit


def test_a_burst_then_a_steady_rate() -> None:
    now = [0.0]
    limit = RateLimit(60, clock=lambda: now[0])  # one a second, ten at once
    assert [limit.wait_s("192.0.2.1") for _ in range(10)] == [0.0] * 10
    assert limit.wait_s("192.0.2.1") == 1.0
    assert limit.wait_s("192.0.2.2") == 0.0
    now[0] = 0.5
    assert limit.wait_s("192.0.2.1") == 0.5
    now[0] = 1.0
    assert limit.wait_s("192.0.2.1") == 0.0
    now[0] = 1000.0
    assert [limit.wait_s("192.0.2.1") for _ in range(10)] == [0.0] * 10
    assert limit.wait_s("192.0.2.1") == 1.0


def test_a_network_of_ipv6_is_one_address() -> None:
    limit = RateLimit(6, clock=lambda: 0.0)
    assert limit.wait_s("2001:db8::1") == 0.0
    assert limit.wait_s("2001:db8::2:3") > 0
    assert limit.wait_s("2001:db8:0:1::1") == 0.0


def test_addresses_are_forgotten_when_there_are_many() -> None:
    limit = RateLimit(6, clock=lambda: 0.0)
    assert limit.wait_s("192.0.2.1") == 0.0
    for number in range(10_000):
        limit.wait_s(f"10.0.{number // 256}.{number % 256}")
    assert limit.wait_s("192.0.2.1") == 0.0
