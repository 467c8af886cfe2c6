"""One module for each measured claim; `python -m benchmarks NAME` prints a table. Not installed with the packages."""
