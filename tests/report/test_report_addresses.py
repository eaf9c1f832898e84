"""Short names of models and corpora: what they keep, and what they never show."""

import pytest

from scanner.report.addresses import corpus, shortened


@pytest.mark.parametrize(
    ("address", "short"),
    [
        ("CompVis/stable-diffusion-v1-4", "CompVis/stable-diffusion-v1-4"),
        ("gaussian", "gaussian"),
        ("/models/sd/1.4", "…/sd/1.4"),
        ("s3://bucket/a/b/0001.tar", "s3://bucket/…/0001.tar"),
        ("https://user:secret@host.example/a/b.tar?sig=secret", "https://host.example/…/b.tar"),
        ("https://[bad/x?sig=secret", "https:///…/x"),
        ("/a/\u202e\x1b[31mb", "…/a/[31mb"),
        ("", ""),
    ],
)
def test_a_short_name_keeps_the_last_parts_and_no_secret(address, short):
    assert shortened(address) == short


def test_a_corpus_is_its_folder_and_its_size():
    one, two = "s3://b/x/0.tar", "s3://b/x/1.tar"
    assert corpus([], 1) == "1 caption"
    assert corpus([one], 2) == "1 shard of s3://b/…/0.tar, 2 captions"
    assert corpus([one, two], 2400) == "2 shards of s3://b/x, 2,400 captions"
    assert corpus([one, "s3://c/0.tar"], 0) == "2 shards of 2 folders, 0 captions"
    assert corpus(["0.tar", "1.tar"], 9) == "2 shards, 9 captions"
    assert len(corpus(["/" + "a" * 500 + "/0.tar", "/" + "a" * 500 + "/1.tar"], 1)) < 120
