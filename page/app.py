"""The script that ``streamlit run`` starts; ``reelcheck page`` calls it with its settings.

Decode processes that the server spawns import this file, too, under another name: it must cost
them nothing.
"""

if __name__ == "__main__":
    from page.frame import main

    main()
