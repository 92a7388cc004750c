"""Networks and heads: arrays in, arrays out; this package knows no file but weight files."""
