"""An inference worker: a process that holds one model and answers over a Unix socket."""
