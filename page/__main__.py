"""The page's server: ``python -m page SETTINGS``, with the settings as JSON.

Decode processes that the server spawns import this file, too, under another name: it must cost them
nothing.
"""

if __name__ == "__main__":
    import sys

    from page.serving import serve_page
    from reelcheck.page_config import PageSettings

    serve_page(PageSettings.model_validate_json(sys.argv[1]))
