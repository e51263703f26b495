"""In which order a host's jobs begin."""

from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.fetching.fetch_target import request_url
from alignset.transforms.fetching.host_queue import FetchJob, HostQueue


def test_a_host_is_one_however_a_url_writes_it():
    urls = ["http://a.example/", "http://a.example:80/", "https://a.example:443/"]
    urls += ["http://a.example./", "https://a.example.:443/", "http://A.example.:80/"]
    sent = [request_url(url) for url in urls]
    assert {FetchJob(0, url, url).host for url in sent} == {"a.example"}
    assert FetchJob(0, "", "http://a.example.:81/").host == "a.example:81"


def test_a_job_that_waited_for_its_name_is_still_the_first():
    queue = HostQueue(FetchSettings(connections_per_host=1))
    jobs = [FetchJob(number, "", f"http://a.example/{number}") for number in range(3)]
    for job in jobs:
        queue.add(job)
    assert queue.take() is jobs[0]
    assert queue.take() is None
    queue.put_back(jobs[0])
    assert len(queue) == 3
    assert queue.take() is jobs[0]
    queue.note_end("a.example")
    assert queue.take() is jobs[1]
