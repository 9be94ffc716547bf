"""Procedural talking faces and blended fakes: a labelled video data set from nothing but a seed."""
