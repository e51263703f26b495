"""What owners of pages, hosts and images wish to become of them, and the licences that they state,
as headers, files and bytes say it. Nothing here asks anybody.
"""
