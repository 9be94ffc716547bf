"""Manifest rows -> packed batches.

dataset.py        rows -> items
features.py       what a backbone that does not learn gives, kept beside the crops
sampling.py       order of the data, twins together
transforms.py     random changes of a sequence
face_geometry.py  shapes that follow the face
self_blend.py     a fake made of a real sequence
loading.py        worker processes
batching.py       items -> batch without padded frames
"""
