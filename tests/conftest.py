"""What every test runs under."""

import hypothesis

# How long an example takes says something of the machine, and nothing of the law that it is an example of.
hypothesis.settings.register_profile("postern", deadline=None)
hypothesis.settings.load_profile("postern")
