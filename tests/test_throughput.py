from scanner.throughput import Throughput


def test_a_steady_thing_goes_at_its_speed():
    throughput = Throughput(100.0)
    assert throughput.per_second(100.0) == 0
    for second in range(1, 11):
        throughput.add(5, 100.0 + second)
    assert throughput.per_second(110.0) == 5
    assert throughput.total == 50


def test_what_was_long_ago_does_not_count():
    throughput = Throughput(0.0)
    for second in range(1, 1001):
        throughput.add(1 if second <= 500 else 3, float(second))
    assert throughput.per_second(1000.0) == 3


def test_a_thing_slower_than_the_window_has_the_speed_of_its_last_report():
    throughput = Throughput(0.0)
    for hour in (1, 2, 3):
        throughput.add(36, hour * 3600.0)
    assert throughput.per_second(3 * 3600.0) == 36 / 3600


def test_a_thing_that_stopped_slows_down():
    throughput = Throughput(0.0)
    for second in range(1, 11):
        throughput.add(1, float(second))
    assert throughput.per_second(10.5) == 1
    assert throughput.per_second(101.0) == 10 / 100
