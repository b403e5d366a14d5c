"""One evaluation cut into ranges of images, for several processes, GPUs or machines.

`plan` cuts and says what a worker must have, `worker` evaluates one shard wherever it is sent, `gather` sends
shards out and takes each answer once, `children` and `dask_client` are executors, and `sharded` is what an
evaluation asks for.
"""
