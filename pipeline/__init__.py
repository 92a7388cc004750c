"""What a person runs: run directory, splits, evaluation, comparison, prediction and the command line."""
