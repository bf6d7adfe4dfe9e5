"""What runs the library as steps of a workflow: configuration, jobs, provenance, locks and devices."""
