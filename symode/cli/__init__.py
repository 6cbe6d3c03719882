"""The command line: arguments in, exit codes out; the work is done by the layers below."""
