"""Procedural talking faces and blended fakes: a labelled video data set from nothing but a seed.

dataset.py   videos and a table of labels
plan.py      which videos there are
clip.py      one video, frame by frame
identity.py  who a face is
render.py    one face in one pose
shapes.py    the grid and the shapes that faces are drawn with
fake.py      another inner face pasted over a face
"""
