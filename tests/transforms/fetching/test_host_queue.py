"""In which order a host's jobs begin."""

from transforms.fetching.fetch_settings import FetchSettings
from transforms.fetching.host_queue import HostQueue, Job


def test_a_job_that_waited_for_its_name_is_still_the_first():
    queue = HostQueue(FetchSettings(connections_per_host=1))
    jobs = [Job(number, "", f"http://a.example/{number}") for number in range(3)]
    for job in jobs:
        queue.add(job)
    assert queue.take() is jobs[0]
    assert queue.take() is None
    queue.put_back(jobs[0])
    assert len(queue) == 3
    assert queue.take() is jobs[0]
    queue.ended("a.example")
    assert queue.take() is jobs[1]
