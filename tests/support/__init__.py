"""What several tests share: sources and studies made up in a moment, stores that fail, and programs that tests start.

Fixtures are in the `conftest.py` of the folder whose tests ask for them.
"""
