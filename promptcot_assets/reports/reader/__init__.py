"""The reader: problems, rationales and verdicts as pages, static or behind a loopback server.

`library` joins the rows, `listing` filters and sorts them, `prose` and `pictures` make text and numbers into safe
HTML, `pages` fills the templates, `export` and `server` are the two ways to see them, `marks` keeps what readers think.
"""
