"""The measurement of features on disk."""

from train.measure import feature_files


def test_both_forms_are_measured(capsys):
    assert feature_files.main(["--samples", "5", "--shard-size", "2"]) == 0
    head, files, shards = capsys.readouterr().out.splitlines()
    assert head.startswith("5 samples")
    assert files.split()[:4] == ["a", "file", "each", "5"] and shards.split()[:3] == [
        "in",
        "shards",
        "3",
    ]
