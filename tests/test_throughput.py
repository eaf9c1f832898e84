from scanner.throughput import Throughput


def test_a_steady_thing_goes_at_its_speed():
    pace = Throughput(100.0)
    assert pace.per_second(100.0) == 0
    for second in range(1, 11):
        pace.add(5, 100.0 + second)
    assert pace.per_second(110.0) == 5
    assert pace.total == 50


def test_what_was_long_ago_does_not_count():
    pace = Throughput(0.0)
    for second in range(1, 1001):
        pace.add(1 if second <= 500 else 3, float(second))
    assert pace.per_second(1000.0) == 3


def test_a_thing_slower_than_the_window_has_the_speed_of_its_last_report():
    pace = Throughput(0.0)
    for hour in (1, 2, 3):
        pace.add(36, hour * 3600.0)
    assert pace.per_second(3 * 3600.0) == 36 / 3600


def test_a_thing_that_stopped_slows_down():
    pace = Throughput(0.0)
    for second in range(1, 11):
        pace.add(1, float(second))
    assert pace.per_second(10.5) == 1
    assert pace.per_second(101.0) == 10 / 100
