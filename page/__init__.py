"""The web page: Streamlit over the same scoring as the command line."""
