"""Durable data: file names, Arrow schemas, Parquet tables, crop shards and checkpoints."""
