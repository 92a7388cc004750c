import hashlib

import pytest

from haemo.errors import DamagedStore, FingerprintMismatch
from haemo.features.store.fingerprint import Fingerprint


def test_equal_facts_are_one_fingerprint_in_whatever_order():
    first = Fingerprint({"layer": "fc7", "preprocessing": {"size": 227, "window": (80, 40)}})
    second = Fingerprint({"preprocessing": {"window": [80, 40], "size": 227}, "layer": "fc7"})
    assert first == second
    assert first.hash == second.hash
    assert len({first, second}) == 1
    assert len(first.hash) == 64


def test_the_hash_is_that_of_the_json_it_stands_beside():
    fingerprint = Fingerprint({"layer": "fc7", "size": 227})
    assert fingerprint.to_json() == '{"layer":"fc7","size":227}'
    assert fingerprint.hash == hashlib.sha256(b'{"layer":"fc7","size":227}').hexdigest()


def test_it_reads_back_what_it_wrote():
    fingerprint = Fingerprint({"layer": "fc7", "preprocessing": {"window": [80.0, 40.0]}, "note": "Ä"})
    assert Fingerprint.from_json(fingerprint.to_json()) == fingerprint


@pytest.mark.parametrize("text", ["", "{", "[1]", "null"])
def test_what_is_no_fingerprint_is_refused(text):
    with pytest.raises(DamagedStore, match="JSON"):
        Fingerprint.from_json(text)


def test_differences_name_nested_keys_and_absent_ones():
    mine = Fingerprint({"layer": "fc7", "preprocessing": {"size": 227}, "old": 1})
    theirs = Fingerprint({"layer": "fc6", "preprocessing": {"size": 227, "crop": False}})
    assert mine.differences(theirs) == [
        ("layer", "fc7", "fc6"),
        ("old", 1, "(absent)"),
        ("preprocessing.crop", "(absent)", False),
    ]
    assert mine.differences(mine) == []


def test_a_mismatch_says_which_key_both_values_and_the_remedy():
    made = Fingerprint({"layer": "fc7", "precision": "float32"})
    made.require(Fingerprint({"precision": "float32", "layer": "fc7"}), "store", "remedy")
    with pytest.raises(FingerprintMismatch) as caught:
        made.require(Fingerprint({"layer": "fc6", "precision": "float32"}), "runs/x/features.h5", "Use --new")
    assert (
        str(caught.value)
        == "runs/x/features.h5 was made in another way: layer is 'fc7', asked for 'fc6'. Use --new"
    )


def test_numbers_that_json_does_not_know_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        Fingerprint({"std": float("nan")})
