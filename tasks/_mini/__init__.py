"""The miniatures: for each benchmark the code that films and writes its small version, imported when one is made."""
