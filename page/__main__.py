"""Streamlit's command line, with what the first visitor would wait for imported before it starts.

Decode processes that the server spawns import this file, too, under another name.
"""

if __name__ == "__main__":
    from streamlit.web.cli import main

    main(prog_name="streamlit")
