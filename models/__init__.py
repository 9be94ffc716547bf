"""The detector, its training and what turns logits into scores. Knows no files and no Prefect."""
