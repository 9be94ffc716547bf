"""The detector: crops -> logits.

backbone.py   frame -> feature (timm)
temporal.py   features of a sequence -> one (Transformer)
heads.py      features -> logits: the classifier on top
detector.py   all of it
padding.py    convolutions that pad like TensorFlow's
"""
