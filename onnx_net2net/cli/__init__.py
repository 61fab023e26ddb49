"""The command line: options, commands, exit codes.

Alone calls what prints. Uses everything below.
"""
