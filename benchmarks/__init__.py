"""One module for each measured claim; `python -m benchmarks NAME` prints a table. Not installed with the packages.

A module has `Settings`, whose fields are its flags, and `run(settings, report)`; all measuring is done by `harness`.
"""
