"""The script that Streamlit runs for every visit.

Decode processes that the server spawns import this file, too, under another name: it must cost
them nothing.
"""

if __name__ == "__main__":
    from page.frame import main

    main()
