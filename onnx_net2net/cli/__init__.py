"""The command line: options, commands, exit codes.

The only place that prints. Uses everything below.
"""
