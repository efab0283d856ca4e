"""Decoding, in a child program."""
