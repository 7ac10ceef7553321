"""The HTTP server over the pipeline: `worker` owns the models, `server` speaks to clients."""
