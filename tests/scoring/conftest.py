from hypothesis import settings

settings.register_profile("patient", deadline=None)  # a slow machine must not fail tests; other tests measure time
settings.load_profile("patient")
