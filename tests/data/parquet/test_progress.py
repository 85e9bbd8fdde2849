"""Preparation's speed in words."""

from diagram_ray.data.parquet.progress import PreparationProgress, Speed


def test_speed_is_of_the_last_minute_and_of_this_run() -> None:
    """1,000 images were there before; then 10 a second for a minute, then 2 a second."""
    clock = iter([0.0, 30.0, 60.0, 90.0, 120.0])
    speed = Speed(clock=lambda: next(clock))
    tallies = [(1000, 0.0), (1300, 3000.0), (1600, 6000.0), (1660, 6600.0), (1720, 7200.0)]
    texts = [
        speed.text(PreparationProgress("preparing images", done, 2000, 0, megapixels)) for done, megapixels in tallies
    ]
    assert texts == [
        "",
        "10.0 files/s, 100 megapixels/s",
        "10.0 files/s, 100 megapixels/s",
        "6.0 files/s, 60 megapixels/s",
        "2.0 files/s, 20 megapixels/s",
    ]
    assert Speed().text(PreparationProgress("writing shards", 1, 2)) == ""
    assert Speed().text(PreparationProgress("preparing images", 0, 2, 3)) == "3 rejected"
