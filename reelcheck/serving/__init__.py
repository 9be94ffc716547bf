"""Who may ask a web server of this project: the page's and Prefect's.

guard.py  requests to the server's own address, from its own pages
login.py  the password of the Prefect server, where the user set none
"""
