"""The code that makes each benchmark's miniature, imported only when one is made."""
