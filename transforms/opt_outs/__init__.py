"""Opt-outs and licences that the owners of pages, hosts and images state in headers, files and
bytes. Nothing here sends a request.
"""
