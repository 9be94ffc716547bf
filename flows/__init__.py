"""What an operator runs: one Prefect flow per file, and the command line over them."""
