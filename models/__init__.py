"""The detector, its training and what turns logits into scores; Prefect is not known here.

data       manifest rows -> packed batches; alone reads storage
network    crops -> logits
training   batches -> weights
metrics    logits -> scores, verdicts and figures
interop    the same network in other formats
"""
