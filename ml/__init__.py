"""The machine learning of mlserver: no Django, no database; every part runs by hand."""
