"""The web page: Streamlit over the same scoring as the command line.

serving.py        the server: Streamlit's, behind a guard
app.py            the script that Streamlit runs for every visit
views             one file per page
frame.py          look and navigation around all pages
markup.py         pieces of HTML, escaped
words.py          a row in sentences
queries.py        queries of a result table
scoring.py        a file that a visitor brought -> its row
visits.py         who has brought which files, and whose turn it is
server.py         settings, visits and loaded models of this server
prefect_state.py  the last runs of a Prefect server
"""
