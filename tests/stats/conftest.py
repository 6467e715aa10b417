from hypothesis import settings

settings.register_profile("patient", deadline=None)  # a busy machine is no failure; time has tests of its own
settings.load_profile("patient")
